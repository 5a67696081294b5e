"""``python -m benchmarks.bars.mixed_precision``: does the integer program dominate the threshold rule?

At each budget of the analysis ``allocation`` both choose widths from one calibration pass. The program
dominates where it costs no more than the rule (energy or mean bits, whichever the budget is of) and the whole
network loses less with it: KL divergence from the float network, measured on validation images that nothing
was chosen on.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.analyses.findings import read_findings
from benchmarks.bars.bar import Bar, in_one_line, print_bars, to_dicts
from benchmarks.suite import begin, do_runs

__all__ = ["allocation_bars", "dominated"]

SUITE = Path(__file__).resolve().parents[2] / "examples" / "mixed_precision.yaml"
BUDGETS = 3
"""So many budgets of each kind must be won."""

_RULE, _PROGRAM = "thresholds", "milp"
_COST = {"energy": ("energy_mj", " mJ"), "mean_bits": ("mean_bits", " bits"), "size": ("size_mb", " MB")}
_ROUNDING = 1e-6  # of a limit: what the solver takes for kept


def dominated(rule: Mapping[str, Any], program: Mapping[str, Any]) -> bool:
    """Whether the program costs no more and loses less, by the figures of one budget."""
    cost, _ = _COST[rule["kind"]]
    return bool(program[cost] <= rule[cost] * (1 + _ROUNDING) and program["kl"] < rule["kl"])


def allocation_bars(model: str, choices: Sequence[Mapping[str, Any]]) -> list[Bar]:
    """One bar for each kind of budget.

    Args:
        model: its name.
        choices: figures of the analysis ``allocation``.
    """
    pairs = [
        (rule, program)
        for rule in choices
        for program in choices
        if rule["name"] == _RULE and program["name"] == _PROGRAM and rule["budget"] == program["budget"]
    ]
    bars = []
    for kind in dict.fromkeys(rule["kind"] for rule, _ in pairs):
        own = [(rule, program) for rule, program in pairs if rule["kind"] == kind]
        words = kind.replace("_", " ")
        bars.append(
            Bar(
                what=f"{model}: budgets of {words} at which the integer program dominates the threshold rule",
                kind="at least",
                limit=BUDGETS,
                measured=sum(dominated(*pair) for pair in own),
                unit=f" of {len(own)}",
                digits=0,
                remark="; ".join(_words(*pair) for pair in own),
            )
        )
    return bars


def _words(rule: Mapping[str, Any], program: Mapping[str, Any]) -> str:
    cost, unit = _COST[rule["kind"]]
    low, high = program["difference"]
    chance = "beyond chance" if high < 0 or low > 0 else "within chance"
    return (
        f"{rule['budget']}: KL {rule['kl']:.4f} → {program['kl']:.4f} ({chance}) at {rule[cost]:.4g} → "
        f"{program[cost]:.4g}{unit}"
    )


def main() -> int:
    """Do what is not done of the runs, print the bars; returns 1 when one is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.mixed_precision", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/mixed"), help="kept: a rerun resumes")
    parser.add_argument("--only", action="append", default=[], help="one of the suite's runs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    console = Console(stderr=True)
    lines = begin(SUITE, options.out, options.only)
    do_runs(lines, lambda text: console.print(f"  {text}", style="dim"))
    bars: list[Bar] = []
    for line in lines:
        choices: Any = read_findings(line.workspace.path("analyses/allocation")).figures["choices"]
        bars += allocation_bars(line.workspace.root.name, choices)
    if options.json:
        print(json.dumps(to_dicts(bars), indent=1))
    else:
        print_bars(bars, Console())
    return 0 if all(bar.reached for bar in bars) else 1


if __name__ == "__main__":
    raise SystemExit(in_one_line("mixed_precision", main))
