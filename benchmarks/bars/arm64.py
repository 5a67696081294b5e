"""``python -m benchmarks.bars.arm64 [RUN]``: does ARM's ONNX Runtime compute what was lowered for it?

The `ort-arm64` file of a run, and its guarded `ort-x86` file, are run by ONNX Runtime for ARM64 under QEMU;
without RUN, those of the demo. Nothing is timed: an emulator's times say nothing.

Logits of the same file must agree within 1e-5 of their largest magnitude, when wherever the model rounds to
8 bits both get the same codes. End to end the bar is shown, too, but the command does not fail for it: where
a value lies between two codes its last bit decides, and a rounding that flips is a whole step.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.arm64.comparison import Found, Pair, compare_on, own_differences, side
from benchmarks.arm64.cpus import CPUS, cpu_named
from benchmarks.arm64.emulator import Emulator, check_host, qemu_version
from benchmarks.arm64.kit import measure_kit
from benchmarks.arm64.rootfs import make_rootfs
from benchmarks.arm64.show import held_table, pairs_table, scientific
from benchmarks.arm64.subject import ARM, X86, digits_run, open_subject
from benchmarks.bars.bar import Bar, in_one_line, print_bars, to_dicts
from benchmarks.files import plain_json, write_text
from benchmarks.kit.merge import Measured

__all__ = ["arm_bars", "end_bars", "kit_bars", "main"]

LIMIT = 1e-5
IMAGES = 32
_LOCK = Path(__file__).parents[2] / "requirements.lock"


def main() -> int:
    """Measure, print, and store ``arm64.json``; returns 1 when a bar is missed, 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.arm64", description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="its folder; the demo by default")
    parser.add_argument("--recipe", help="of the run; its first by default")
    parser.add_argument("--cpu", action="append", choices=list(CPUS), help="may be repeated; all by default")
    parser.add_argument("--build", type=Path, default=Path("build/arm64"), help="kept: a rerun resumes")
    parser.add_argument("--no-kit", action="store_true", help="leave out the target kit")
    given = parser.parse_args()
    check_host()
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(f"  {text}", style="dim", highlight=False)

    root = make_rootfs(given.build, _LOCK, say)
    run = given.run or digits_run(given.build / "runs" / "digits", console)
    subject = open_subject(run, given.recipe, IMAGES)
    say("on this machine")
    sides = {target: side(subject, target) for target in (ARM, X86)}
    own, fake_quant = own_differences(sides.values()), subject.fake_quant()
    found = []
    for cpu in [cpu_named(name) for name in given.cpu or CPUS]:
        say(f"on {cpu.name}")
        place = given.build / "work" / root.name / cpu.name
        found.append(compare_on(Emulator(root, cpu), subject, sides, fake_quant, place))
    bars = [bar for one in found for bar in arm_bars(one, subject.required_db())] + _same_everywhere(found)
    if not given.no_kit:
        first = Emulator(root, cpu_named(found[0].cpu))
        result, measured = measure_kit(run, first, given.build / "kit" / root.name, IMAGES, say)
        bars += kit_bars(measured)
        say(f"the kit's result: octavo report {run} {result}")
    ends = [bar for one in found for bar in end_bars(one, own)]
    out = Console()
    out.print(pairs_table(found, own))
    out.print(held_table(found))
    print_bars([*bars, *ends], out)
    if not all(bar.reached for bar in ends):
        out.print("A bar missed end to end alone does not fail this command; `--help` says why.")
    content = _content(found, own, [*bars, *ends])
    write_text(given.build / "arm64.json", json.dumps(plain_json(content), indent=2) + "\n")
    return 0 if all(bar.reached for bar in bars) else 1


def arm_bars(found: Found, required_db: float) -> list[Bar]:
    """What is asked of one processor.

    Args:
        found: what it gave.
        required_db: SQNR against the fake-quant model that the run asks of the lowered file.
    """
    bars = []
    for target, held in found.roundings.items():
        flips = f"{held.flipped} of {held.codes:,} roundings differ then"
        what = f"{found.cpu}, {target} file, same codes: logits, relative"
        bars.append(_near(what, held.logits, f"codes held at {held.places} places; {flips}"))
        bars.append(_near("… any value that is rounded", held.worst, f"worst: {held.where}"))
        then, whole = found.integers[target]
        bars.append(
            Bar("… integer kernels that multiplied, end to end and then", "at least", whole, then, digits=0)
        )
    for target, pair in found.same_file.items():
        far = pair.apart
        what, unit = f"… {target} file end to end: same top-1", f" of {far.images}"
        bars.append(Bar(what, "at least", far.images, far.same_top1, unit, digits=0))
    db = round(required_db, 1)
    bars.append(Bar("… SQNR against the fake-quant model", "at least", db, found.fake_quant_db, " dB"))
    audited = found.audited
    lines = (*audited.differences, *audited.unlike_profile)
    share = f"{100 * audited.executed.weight_share:.2f} % of linear + conv MACs in integers there"
    what, remark = "… audit: differences from what ran", "; ".join((share, *lines[:3]))
    return [*bars, Bar(what, "at most", 0, len(lines), digits=0, remark=remark)]


def end_bars(found: Found, own: Mapping[str, Pair]) -> list[Bar]:
    """The same limit end to end, which no runtime keeps but by luck.

    Args:
        found: what a processor gave.
        own: target to how far this machine's kernels are from ONNX's definition of its file.
    """
    bars = []
    for target, pair in found.same_file.items():
        remark = f"against {pair.against}"
        if target in own:
            remark += f"; these are within {scientific(own[target].apart.relative)} of ONNX's definition"
        what = f"{found.cpu}, {target} file end to end: logits, relative"
        bars.append(_near(what, pair.apart.relative, remark))
    return bars


def kit_bars(measured: Measured) -> list[Bar]:
    """Of the kit: its answers are there, and no time and no memory of the emulator is."""
    variants = measured.summary.variants
    timed = sum(one.latency is not None or one.memory is not None for one in variants)
    answered = sum(one.accuracy is not None for one in variants)
    name, count = measured.summary.environment.cpu, len(variants)
    return [
        Bar("kit: variants that were judged", "at least", count, answered, digits=0, remark=name),
        Bar("… with times or memory in the report", "at most", 0, timed, digits=0),
    ]


def _near(what: str, measured: float, remark: str) -> Bar:
    return Bar(what, "at most", LIMIT, measured, digits=8, remark=remark)


def _same_everywhere(found: Sequence[Found]) -> list[Bar]:
    if len(found) < 2:
        return []
    differ = sum(int((one.logits != found[0].logits).sum()) for one in found[1:])
    names = ", ".join(one.cpu for one in found)
    what = f"ort-arm64 file: logits that differ between {names}"
    return [Bar(what, "at most", 0, differ, f" of {found[0].logits.size:,}", digits=0)]


def _content(found: Sequence[Found], own: Mapping[str, Pair], bars: Sequence[Bar]) -> Mapping[str, Any]:
    return {
        "emulator": qemu_version(),
        "processors": [
            {
                "name": one.cpu,
                "end_to_end": [asdict(pair) for pair in one.pairs],
                "same_codes": {target: asdict(held) for target, held in one.roundings.items()},
                "integer_kernels": dict(one.integers),
                "fake_quant_db": one.fake_quant_db,
                "audit": one.audited.executed.to_dict(),
                "audit_differences": [*one.audited.differences, *one.audited.unlike_profile],
            }
            for one in found
        ],
        "x86_from_its_definition": {target: asdict(pair) for target, pair in own.items()},
        "bars": to_dicts(bars),
    }


if __name__ == "__main__":
    raise SystemExit(in_one_line("benchmarks.bars.arm64", main))
