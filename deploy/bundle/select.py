"""Which variant of a run is packaged, and whether it is signed off: measured, and as it should be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bundle.layout import ORT_TARGETS
from quant.errors import BadInput
from quant.files import file_sha256
from quant.words import near

__all__ = ["Choice", "choose_variant"]

_NOT_FILES = ("pytorch",)


@dataclass(frozen=True)
class Choice:
    """A variant for a target.

    Attributes:
        variant: ``fp32``, ``fp16`` or the recipe.
        target: what it was lowered for.
        entry: what the run's summary says of it.
        reference: the same of the float model that it was compared with.
        parity: the stages of the parity check; None of a float model, which has none.
        doubts: what the check found, where the run's settings let it pass; empty where all was well.
    """

    variant: str
    target: str
    entry: Mapping[str, Any]
    reference: Mapping[str, Any]
    parity: Mapping[str, Any] | None
    doubts: tuple[str, ...]


def choose_variant(
    root: Path, summary: Mapping[str, Any], variant: str, target: str | None, recipes: Sequence[str]
) -> Choice:
    """Find a variant that may be shipped.

    Args:
        root: the run's folder.
        summary: its summary, as JSON values.
        variant: ``fp32``, ``fp16``, a recipe, or one of these with its target, such as ``int8-ort-x86``.
        target: what it is for; needed where it was lowered for several.
        recipes: names of the run's recipes.

    Raises:
        BadInput: the run has no such variant, or has it for other targets, or it was not measured, or its
            file is another than the one that was.
    """
    known = _known(summary)
    if variant not in known and variant in recipes:
        raise BadInput(
            f"{root}: '{variant}' was not measured, or was refused on the way; `octavo run` goes on, or says "
            "why not"
        )
    full = {f"{name}-{on}": (name, on) for name, targets in known.items() for on in targets}
    if variant not in known and variant in full:
        variant, named = full[variant]
        if target not in (None, named):
            raise BadInput(f"'{variant}-{named}' is for {named}, not for '{target}'; leave --target out")
        target = named
    if variant not in known:
        listed = "; ".join(f"{name} for {' and '.join(targets)}" for name, targets in known.items())
        raise BadInput(f"the run has no variant '{variant}'{near(variant, known)}; it has {listed}")
    targets = known[variant]
    if target is None and len(targets) > 1:
        raise BadInput(f"'{variant}' was lowered for {', '.join(targets)}; choose one with --target")
    target = target or next(iter(targets))
    entry = targets.get(target) or _float_elsewhere(summary, variant, target)
    if entry is None:
        raise BadInput(
            f"'{variant}' was not lowered for '{target}'{near(target, targets)}; the run has it for "
            f"{', '.join(targets)}"
        )
    (reference,) = [one for one in summary["variants"] if one["name"] == summary["reference"]]
    _check_measured(root, entry)
    parity = entry["parity"]
    return Choice(variant, target, entry, reference, parity, _doubts(root, entry["name"], parity))


def _known(summary: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Variant to target to its entry; the float model's target is that of the machine which ran it."""
    here = ORT_TARGETS.get(str(summary["environment"]["architecture"]).lower())
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for entry in summary["variants"]:
        target = here if entry["target"] == "onnx" else entry["target"]
        if target is not None and target not in _NOT_FILES:
            name = str(entry["name"]).removesuffix(f"-{target}")
            found.setdefault(name, {})[target] = entry
    return found


def _float_elsewhere(summary: Mapping[str, Any], variant: str, target: str) -> Mapping[str, Any] | None:
    """The float model for ONNX Runtime on another processor than the run's: the file as it was exported.

    Its operators are the standard's, and its accuracy that of any processor; times and memory are not.
    """
    if variant != "fp32" or target not in ORT_TARGETS.values():
        return None
    entries = {entry["name"]: entry for entry in summary["variants"] if entry["target"] == "onnx"}
    found = entries.get("fp32-plain", entries.get("fp32"))
    note = f"accuracy was measured on {summary['environment']['architecture']}, times were not"
    return found and {**found, "latency": None, "memory": None, "note": note}


def _check_measured(root: Path, entry: Mapping[str, Any]) -> None:
    name, file = entry["name"], root / entry["file"]
    if entry["accuracy"] is None:
        raise BadInput(
            f"'{name}' has no measured accuracy ({entry['note']}); set `bench: {{other_targets: true}}` and "
            "run `octavo bench` again, or measure on its target"
        )
    if not file.is_file():
        raise BadInput(f"{file}: does not exist; run `octavo lower` and `octavo bench` again")
    if entry["sha256"] is None:
        raise BadInput(
            f"'{name}' was measured by an Octavo that did not keep which file it was; run `octavo bench` "
            "again"
        )
    if file_sha256(file) != entry["sha256"]:
        raise BadInput(f"{file}: is not the file that was measured; run `octavo bench` again")


def _doubts(root: Path, name: str, parity: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The stages that are out of limits.

    A run that says `parity: fail` has none of these: its file was never written.
    """
    if parity is None:
        return ()
    found = []
    for stage, figures in parity.items():
        if not isinstance(figures, dict) or "within_limits" not in figures:
            raise BadInput(
                f"{root}: the parity of '{name}' was checked by an Octavo that kept no verdict; run `octavo "
                "lower` and `octavo bench` again"
            )
        if not figures["within_limits"]:
            had, needed = figures.get("parity_db"), figures.get("required_db")
            found.append(stage if had is None else f"{stage}: {_db(had)} where {_db(needed)} are required")
    return tuple(found)


def _db(value: Any) -> str:
    return f"{float(value):.1f} dB"
