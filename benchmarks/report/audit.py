"""What really runs on integers, drawn from the audit of each variant."""

from collections import Counter
from collections.abc import Iterable

from pydantic import BaseModel, ValidationError

from benchmarks.report.cells import Grid, label, percent
from benchmarks.results import Summary, Variant
from quant.errors import BadInput

__all__ = ["AuditView", "Multiplication", "audit_grids", "audit_view"]


class _Finding(BaseModel, frozen=True):
    rule: str
    reason: str
    remedy: str


class Multiplication(BaseModel, frozen=True):
    """A node that multiplies, as the audit describes it."""

    module: str
    op: str
    kind: str
    macs: int
    integer: bool
    intended: bool
    findings: tuple[_Finding, ...] = ()


class _Leftover(BaseModel, frozen=True):
    op: str
    category: str
    bad: bool


class _Risk(BaseModel, frozen=True):
    module: str
    pairs: int
    total: int


class AuditView(BaseModel, frozen=True):
    """The part of ``AuditReport.to_dict()`` that is shown; anything else in it is left alone.

    Attributes:
        total_share: share of all multiply-accumulates done on integers, 0 to 1.
        weight_share: the same of linear layers and convolutions alone.
        multiplications: every node that multiplies.
        leftovers: every Q and DQ node that runs.
        saturation: layers that may saturate on CPUs without VNNI.
        notes: remarks of the audit.
    """

    total_share: float
    weight_share: float
    multiplications: tuple[Multiplication, ...] = ()
    leftovers: tuple[_Leftover, ...] = ()
    saturation: tuple[_Risk, ...] = ()
    notes: tuple[str, ...] = ()


def audit_view(variant: Variant) -> AuditView | None:
    """Read the audit of a variant, if it has one.

    Raises:
        BadInput: the record is not one of an audit.
    """
    if variant.audit is None:
        return None
    try:
        return AuditView.model_validate(variant.audit)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInput(f"the audit of {variant.name} cannot be read: {place}: {first['msg']}") from error


def audit_grids(summary: Summary) -> tuple[Grid, ...]:
    """An overview with one column per audited variant, then what each of them does in float.

    Raises:
        BadInput: a record is not one of an audit.
    """
    views = [(v, view) for v in summary.variants if (view := audit_view(v)) is not None]
    if not views:
        return ()
    details = [
        grid
        for variant, view in views
        for grid in (
            _unfused(variant, view),
            _float(variant, view, "Only the weight is quantized", weight_only=True),
            _float(variant, view, "Left in float by the recipe", weight_only=False),
            _leftovers(variant, view),
        )
        if grid.rows
    ]
    return (_overview(views), *details)


def _overview(views: list[tuple[Variant, AuditView]]) -> Grid:
    found = [view for _, view in views]
    rows = [
        ("Multiplications on integers", *(percent(a.total_share) for a in found)),
        ("Of linear layers and convolutions", *(percent(a.weight_share) for a in found)),
        ("Quantized, but run in float", *(str(len(_broken(a))) for a in found)),
        ("Q/DQ nodes that run", *(str(len(a.leftovers)) for a in found)),
        ("Of these, wasted", *(str(sum(item.bad for item in a.leftovers)) for a in found)),
        ("Layers that may saturate without VNNI", *(str(len(a.saturation)) for a in found)),
        ("Notes", *("; ".join(a.notes) or "none" for a in found)),
    ]
    return Grid("Executed by the runtime", ("", *(label(v.name) for v, _ in views)), tuple(rows))


def _unfused(variant: Variant, audit: AuditView) -> Grid:
    rows = []
    for finding, items in _by_rule(_broken(audit)).items():
        why = f"{finding.reason}; {finding.remedy}" if finding else "no known rule explains it"
        rows.append((_modules(i.module for i in items), _share(items, audit), why))
    head = ("Modules", "Share", "Why, and what helps")
    return Grid(f"Quantized, but run in float, {label(variant.name)}", head, tuple(rows))


def _float(variant: Variant, audit: AuditView, title: str, weight_only: bool) -> Grid:
    groups: dict[tuple[str, str], list[Multiplication]] = {}
    for item in audit.multiplications:
        told = any(finding.rule == "weight-only" for finding in item.findings)
        if not item.integer and not item.intended and told == weight_only:
            groups.setdefault((item.op, item.kind), []).append(item)
    rows = tuple(
        (op, kind, str(len(items)), _share(items, audit), _modules(i.module for i in items))
        for (op, kind), items in groups.items()
    )
    head = ("Operator", "Kind", "Count", "Share", "Modules")
    return Grid(f"{title}, {label(variant.name)}", head, rows)


def _leftovers(variant: Variant, audit: AuditView) -> Grid:
    groups = Counter((not item.bad, item.category, item.op) for item in audit.leftovers)
    rows = tuple(
        (category, op, str(count), "expected" if expected else "wasted")
        for (expected, category, op), count in sorted(groups.items())
    )
    return Grid(f"Q/DQ nodes that run, {label(variant.name)}", ("Why", "Operator", "Count", "Verdict"), rows)


def _broken(audit: AuditView) -> list[Multiplication]:
    return [m for m in audit.multiplications if not m.integer and m.intended]


def _by_rule(items: list[Multiplication]) -> dict[_Finding | None, list[Multiplication]]:
    """One entry per broken rule, worded as first met; a node that broke two stands under both."""
    worded: dict[str, _Finding] = {}
    groups: dict[_Finding | None, list[Multiplication]] = {}
    for item in items:
        for finding in item.findings:
            groups.setdefault(worded.setdefault(finding.rule, finding), []).append(item)
        if not item.findings:
            groups.setdefault(None, []).append(item)
    return groups


def _share(items: list[Multiplication], audit: AuditView) -> str:
    return percent(sum(i.macs for i in items) / (sum(m.macs for m in audit.multiplications) or 1))


def _modules(names: Iterable[str]) -> str:
    different = list(dict.fromkeys(names))
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    return ", ".join(different[:3]) + more
