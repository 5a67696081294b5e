"""Measure on a GPU, unattended.

    python -m benchmarks.gpu prepare RUN --out kit             where Octavo is installed
    python -m benchmarks.gpu measure kit --out gpu.json        where the GPU is, within ten minutes

What is measured depends on what is installed there: TensorRT or TensorRT-RTX with pycuda or PyTorch, ONNX
Runtime with its CUDA provider, PyTorch. Each part runs in a process of its own with a share of the time, so
that one that crashes or hangs costs the others nothing; the result is written after each of them.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.gpu.kit import open_kit, prepare
from benchmarks.gpu.measure import measure, work
from benchmarks.gpu.sections import SECTIONS, Budget
from benchmarks.gpu.show import markdown
from quant.errors import BadInput, Unsupported

BAD_INPUT = 2


def main() -> int:
    """The command; returns 2 for input that cannot be used, else 0."""
    arguments = _parser().parse_args()
    try:
        if arguments.verb == "prepare":
            kit = prepare(arguments.run, arguments.out, arguments.images, arguments.variants)
            print(f"{arguments.out}: {', '.join(kit.models)}")
        elif arguments.verb == "section":  # what `measure` starts for each part
            work(arguments.name, open_kit(arguments.kit), Budget(arguments.seconds, arguments.device))
        else:
            budget = Budget(arguments.seconds, arguments.device)
            parts = arguments.only or tuple(SECTIONS)
            found = measure(arguments.kit, arguments.out, parts, 60 * arguments.minutes, budget)
            print(markdown(found))
    except (BadInput, Unsupported) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return BAD_INPUT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    pack = verbs.add_parser("prepare", help="pack a run that is lowered for target tensorrt")
    pack.add_argument("run", type=Path)
    pack.add_argument("--out", type=Path, required=True, help="a new folder")
    pack.add_argument("--images", type=int, default=32, help="samples that answers are compared on")
    pack.add_argument("--variants", nargs="+", default=(), help="such as fp16 int8; all by default")
    timed = verbs.add_parser("measure", help="measure a kit here")
    timed.add_argument("kit", type=Path)
    timed.add_argument("--out", type=Path, default=Path("gpu.json"))
    timed.add_argument("--minutes", type=float, default=9.0, help="for everything together")
    timed.add_argument("--only", nargs="+", choices=SECTIONS, help="these parts alone")
    part = verbs.add_parser("section")
    part.add_argument("name", choices=SECTIONS)
    part.add_argument("kit", type=Path)
    for one in (timed, part):
        one.add_argument("--seconds", type=float, default=1.0, help="of each timing")
        one.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="of the parts by PyTorch")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
