"""The registry of rules; a new rule is a function decorated with ``@rule("name")``."""

from collections.abc import Callable
from dataclasses import dataclass

from deploy.audit.macs import Kind
from deploy.audit.site import Site

__all__ = ["RULES", "Finding", "diagnose", "left_out", "rule", "weight_only"]


@dataclass(frozen=True)
class Finding:
    """A rule that was broken.

    Attributes:
        rule: its short name.
        reason: what stands in the model, in words.
        remedy: what to change.
    """

    rule: str
    reason: str
    remedy: str


Check = Callable[[Site], tuple[str, str] | None]

RULES: dict[str, Check] = {}
"""Rule name to check; a check returns ``(reason, remedy)`` or None where the rule is kept."""

SUFFICIENT = frozenset({"fp8-simulated", "grouped-weight"})
"""Rules of formats that no integer kernel takes: where one is broken, the others have nothing to add."""


def rule(name: str) -> Callable[[Check], Check]:
    """Register a check under a name."""

    def register(check: Check) -> Check:
        RULES[name] = check
        return check

    return register


def diagnose(site: Site) -> tuple[Finding, ...]:
    """Return every rule that the site breaks; empty where none of the known ones explains it."""
    found = tuple(
        Finding(name, *broken) for name, check in RULES.items() if (broken := check(site)) is not None
    )
    return tuple(f for f in found if f.rule in SUFFICIENT)[:1] or found


def weight_only(bits: int) -> Finding:
    """Describe a product of which only the weight is quantized."""
    return Finding("weight-only", f"weight-only: {bits}-bit weights, made float for a product in float", "")


def left_out(kind: Kind) -> Finding:
    """Describe an operator the recipe never meant to quantize."""
    what = "attention matmul (activation × activation)" if kind is Kind.ACTIVATION else "operator"
    return Finding("not-in-recipe", f"not quantized by the recipe: no Q/DQ on this {what}", "")
