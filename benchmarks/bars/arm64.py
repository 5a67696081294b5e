"""``python -m benchmarks.bars.arm64 [RUN]``: does ARM's ONNX Runtime compute what was lowered for it?

The `ort-arm64` file of a run, and its guarded `ort-x86` file, are run by the ARM64 build of ONNX Runtime under QEMU;
without RUN, those of the demo. Nothing is timed: an emulator's times say nothing.

What the bar of 1e-5 is asked of: logits of the same file, relative to the largest magnitude, from the same codes wherever
the model rounds to 8 bits. End to end the figure is printed, too, and asked only where this machine agrees with
itself that well: between its own integer kernels and ONNX's definition of the same file roundings flip, too, and
each is a whole step.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.arm64.comparison import Found, Pair, compare_on, own_differences, side
from benchmarks.arm64.cpus import CPUS, cpu_named
from benchmarks.arm64.emulator import Emulator, check_host, qemu_version
from benchmarks.arm64.kit import measure_kit
from benchmarks.arm64.rootfs import make_rootfs
from benchmarks.arm64.subject import ARM, X86, digits_run, open_subject
from benchmarks.bars.bar import Bar, in_one_line, print_bars, to_dicts
from benchmarks.files import plain_json, write_text
from benchmarks.kit.merge import Measured
from quant.errors import BadInput

__all__ = ["arm_bars", "kit_bars", "main"]

LIMIT = 1e-5
IMAGES = 32
_LOCK = Path(__file__).parents[2] / "requirements.lock"


def main() -> int:
    """Measure, print, and store ``arm64.json``; returns 1 when a bar is missed, 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.arm64", description=__doc__)
    parser.add_argument(
        "run", type=Path, nargs="?", help="its folder; the demo, in the build folder, by default"
    )
    parser.add_argument("--recipe", help="of the run; its first by default")
    parser.add_argument("--cpu", action="append", choices=list(CPUS), help="all by default; may be repeated")
    parser.add_argument(
        "--build", type=Path, default=Path("build/arm64"), help="kept, so that a rerun resumes"
    )
    parser.add_argument("--no-kit", action="store_true", help="leave out the target kit")
    given = parser.parse_args()
    check_host()
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(f"  {text}", style="dim", highlight=False)

    root = make_rootfs(given.build, _LOCK, say)
    run = given.run or digits_run(given.build / "runs" / "digits", console)
    subject = open_subject(run, given.recipe, IMAGES)
    if len(subject.images) < IMAGES:
        raise BadInput(f"{run}: has {len(subject.images)} validation images; {IMAGES} are compared")
    say("on this machine")
    sides = {target: side(subject, target) for target in (ARM, X86)}
    fake_quant = subject.fake_quant()
    found = []
    for cpu in [cpu_named(name) for name in given.cpu or CPUS]:
        say(f"on {cpu.name}")
        place = given.build / "work" / root.name / cpu.name
        found.append(compare_on(Emulator(root, cpu), subject, sides, fake_quant, place))
    own = own_differences(list(sides.values()))
    bars = [bar for one in found for bar in arm_bars(one, own, subject.required_db())]
    bars += _same_everywhere(found)
    if not given.no_kit:
        first = Emulator(root, cpu_named(found[0].cpu))
        result, measured = measure_kit(run, first, given.build / "kit" / root.name, IMAGES, say)
        bars += kit_bars(measured)
        say(f"the kit's result: octavo report {run} {result}")
    out = Console()
    out.print(_pairs_table(found, own))
    out.print(_held_table(found))
    print_bars(bars, out)
    content = _content(found, own, bars)
    write_text(given.build / "arm64.json", json.dumps(plain_json(content), indent=2) + "\n")
    return 0 if all(bar.reached for bar in bars) else 1


def arm_bars(found: Found, own: Sequence[Pair], required_db: float) -> list[Bar]:
    """What is asked of one processor.

    Args:
        found: what it gave.
        own: how far this machine is from itself.
        required_db: SQNR against the fake-quant model that the run asks of the lowered file.
    """
    bars = []
    for target, held in found.roundings.items():
        remark = f"same codes at {held.places} places; {held.flipped} of {held.codes:,} roundings differ then"
        what = f"{found.cpu}, {target} file: logits, relative"
        bars.append(_tiny(what, held.logits, remark))
        bars.append(_tiny("… any value that is rounded", held.worst, f"worst at {held.where}"))
    end = found.pairs[0].apart
    itself = max((pair.apart.relative for pair in own), default=0.0)
    if itself <= LIMIT:
        bars.append(_tiny("… logits end to end", end.relative))
    bars += [
        Bar(
            "… same top-1 end to end",
            "at least",
            end.images,
            end.same_top1,
            f" of {end.images}",
            digits=0,
            remark=f"logits within {_scientific(end.relative)}; x86 is within {_scientific(itself)} of itself",
        ),
        Bar(
            "… SQNR against the fake-quant model",
            "at least",
            round(required_db, 1),
            found.fake_quant_db,
            " dB",
        ),
    ]
    audited = found.audited
    lines = (*audited.differences, *audited.unlike_profile)
    share = f"{100 * audited.executed.weight_share:.2f} % of linear + conv MACs in integers there"
    remark = "; ".join((share, *lines[:3]))
    return [
        *bars,
        Bar("… audit: differences from what ran", "at most", 0, len(lines), digits=0, remark=remark),
    ]


def kit_bars(measured: Measured) -> list[Bar]:
    """Of the kit: its answers are there, and no time and no memory of the emulator is."""
    variants = measured.summary.variants
    timed = sum(one.latency is not None or one.memory is not None for one in variants)
    answered = sum(one.accuracy is not None for one in variants)
    name = measured.summary.environment.cpu
    return [
        Bar("kit: variants that were judged", "at least", len(variants), answered, digits=0, remark=name),
        Bar("… with times or memory in the report", "at most", 0, timed, digits=0),
    ]


def _scientific(value: float) -> str:
    """Two digits and a power of ten; 0 for none."""
    return f"{value:.1e}" if value else "0"


def _tiny(what: str, measured: float, remark: str = "") -> Bar:
    return Bar(what, "at most", LIMIT, measured, digits=8, remark=remark)


def _same_everywhere(found: Sequence[Found]) -> list[Bar]:
    if len(found) < 2:
        return []
    differ = sum(int((one.logits != found[0].logits).sum()) for one in found[1:])
    names = ", ".join(one.cpu for one in found)
    return [Bar(f"logits that differ between {names}", "at most", 0, differ, digits=0)]


def _pairs_table(found: Sequence[Found], own: Sequence[Pair]) -> Table:
    table = Table(title="Logits end to end: max |a − b| / max |b|")
    for name in ("a", "b", "Relative", "Same top-1", "Worst image"):
        table.add_column(name, justify="left" if len(name) == 1 else "right")
    rows = [(f"{one.cpu}, {pair.what}", pair) for one in found for pair in one.pairs]
    for name, pair in (*rows, *((pair.what, pair) for pair in own)):
        far = pair.apart
        same = f"{far.same_top1} of {far.images}"
        table.add_row(name, pair.against, _scientific(far.relative), same, str(far.worst))
    return table


def _held_table(found: Sequence[Found]) -> Table:
    table = Table(title="From the same codes: ARM's kernels against ONNX's definition on x86")
    for name in ("", "Places", "Worst, relative", "at", "Logits", "Roundings that differ"):
        table.add_column(name, justify="right" if name and name != "at" else "left")
    for one in found:
        for target, held in one.roundings.items():
            flips = f"{held.flipped} of {held.codes:,}"
            worst, logits = _scientific(held.worst), _scientific(held.logits)
            table.add_row(f"{one.cpu}, {target} file", str(held.places), worst, held.where, logits, flips)
    return table


def _content(found: Sequence[Found], own: Sequence[Pair], bars: Sequence[Bar]) -> Mapping[str, Any]:
    return {
        "emulator": qemu_version(),
        "processors": [
            {
                "name": one.cpu,
                "end_to_end": [asdict(pair) for pair in one.pairs],
                "same_codes": {target: asdict(held) for target, held in one.roundings.items()},
                "fake_quant_db": one.fake_quant_db,
                "audit": one.audited.executed.to_dict(),
                "audit_differences": [*one.audited.differences, *one.audited.unlike_profile],
            }
            for one in found
        ],
        "x86_from_itself": [asdict(pair) for pair in own],
        "bars": to_dicts(bars),
    }


if __name__ == "__main__":
    raise SystemExit(in_one_line("benchmarks.bars.arm64", main))
