"""Show an audit report in a terminal."""

from collections import Counter, defaultdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deploy.audit.macs import Kind
from deploy.audit.report import AuditReport, Multiplication
from deploy.audit.rules import Finding

__all__ = ["render"]

_NO_RULE = "no known rule"


def render(report: AuditReport, console: Console) -> None:
    """Print the shares, what was not fused and why, the leftover Q/DQ nodes and the notes.

    Args:
        report: what `audit_model` returned.
        console: where to print.
    """
    runtime = report.runtime if report.target == "tensorrt" else f"ONNX Runtime {report.runtime}"
    console.print(Text(f"{report.model} on {report.target}, {runtime}", style="bold"))
    _headline(report, console)
    _unfused(report, console)
    _floats(report.weight_only, "Only the weight is quantized; multiplied in float", console)
    _floats(report.left_float, "Not quantized by the recipe", console)
    _leftovers(report, console)
    _saturation(report, console)
    for note in report.notes:
        console.print(Text(f"Note: {note}."))


def _headline(report: AuditReport, console: Console) -> None:
    weights = report.macs(Kind.LINEAR, Kind.CONV)
    console.print(
        Text(
            f"Integer kernels do {report.weight_share:.1%} of the linear and convolution MACs "
            f"({_amount(weights)}), {report.total_share:.1%} of all MACs ({_amount(report.macs())})."
        )
    )


def _unfused(report: AuditReport, console: Console) -> None:
    if not report.unfused:
        text = (
            "Every multiplication the recipe quantized runs in an integer kernel."
            if report.macs(integer=True)
            else "Only weights are quantized in this model."
            if report.weight_only
            else "Nothing that multiplies is quantized in this model."
        )
        console.print(Text(text))
        return
    table = Table(title="Quantized in the model, float when executed", title_justify="left")
    for column in ("Module", "Operator", "MACs", "Share", "Broken rule"):
        table.add_column(column, justify="right" if column in ("MACs", "Share") else "left", overflow="fold")
    total = report.macs() or 1
    for item in sorted(report.unfused, key=lambda m: -m.macs):
        rules = ", ".join(f.rule for f in item.findings) or _NO_RULE
        table.add_row(Text(item.module), item.op, _amount(item.macs), f"{item.macs / total:.1%}", Text(rules))
    console.print(table)
    for finding, count in _explanations(report.unfused).items():
        console.print(Text(f"{finding.rule} ({count}×): {finding.reason}.\n  Remedy: {finding.remedy}."))
    if any(not m.findings for m in report.unfused):
        console.print(Text(f"{_NO_RULE}: none of the rules known to Octavo explains it."))


def _explanations(items: tuple[Multiplication, ...]) -> dict[Finding, int]:
    """One finding for each rule, the first met, with how often the rule was broken."""
    first: dict[str, Finding] = {}
    count: Counter[str] = Counter()
    for item in items:
        for finding in item.findings:
            first.setdefault(finding.rule, finding)
            count[finding.rule] += 1
    return {first[rule]: count[rule] for rule in first}


def _floats(multiplications: tuple[Multiplication, ...], title: str, console: Console) -> None:
    groups: defaultdict[tuple[str, Kind], list[Multiplication]] = defaultdict(list)
    for item in multiplications:
        groups[item.op, item.kind].append(item)
    if not groups:
        return
    table = Table(title=title, title_justify="left")
    for column in ("Operator", "Multiplies", "Count", "MACs", "Modules"):
        table.add_column(column, justify="right" if column in ("Count", "MACs") else "left", overflow="fold")
    for (op, kind), items in groups.items():
        modules = list(dict.fromkeys(m.module for m in items))
        shown = ", ".join(modules[:3]) + (f" and {len(modules) - 3} more" if len(modules) > 3 else "")
        what = "activation × activation" if kind is Kind.ACTIVATION else "activation × weight"
        table.add_row(op, what, str(len(items)), _amount(sum(m.macs for m in items)), Text(shown))
    console.print(table)


def _leftovers(report: AuditReport, console: Console) -> None:
    if not report.leftovers:
        console.print(Text("No QuantizeLinear or DequantizeLinear is executed."))
        return
    table = Table(title="Q/DQ nodes that are executed", title_justify="left")
    for column in ("Verdict", "Why", "Operator", "Count", "Elements", "Modules"):
        table.add_column(
            column, justify="right" if column in ("Count", "Elements") else "left", overflow="fold"
        )
    groups: defaultdict[tuple[bool, str, str], list[tuple[str, int]]] = defaultdict(list)
    for item in report.leftovers:
        groups[item.bad, str(item.category), item.op].append((item.module, item.elements))
    for (bad, why, op), members in sorted(groups.items(), key=lambda g: (not g[0][0], g[0][1:])):
        modules = list(dict.fromkeys(m for m, _ in members))
        shown = ", ".join(modules[:3]) + (f" and {len(modules) - 3} more" if len(modules) > 3 else "")
        verdict = Text("wasted", style="red") if bad else Text("expected", style="green")
        elements = _amount(sum(e for _, e in members))
        table.add_row(verdict, why, op, str(len(members)), elements, Text(shown))
    console.print(table)


def _saturation(report: AuditReport, console: Console) -> None:
    if not report.saturation:
        return
    table = Table(title="May saturate on x86 CPUs without VNNI (information)", title_justify="left")
    for column in ("Module", "Kernel", "Weight pairs over", "Worst sum (limit 32767)"):
        table.add_column(
            column, justify="left" if column in ("Module", "Kernel") else "right", overflow="fold"
        )
    for risk in report.saturation:
        pairs = f"{risk.pairs} of {risk.total}"
        table.add_row(Text(risk.module), risk.op, pairs, str(risk.worst))
    console.print(table)


def _amount(value: int) -> str:
    for limit, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if value >= limit:
            return f"{value / limit:.2f} {unit}"
    return str(value)
