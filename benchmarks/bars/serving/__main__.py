"""``python -m benchmarks.bars.serving``: the bars of `octavo serve`, on a bundle of a model of images."""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.bars.bar import Bar, in_one_line, print_bars, to_dicts
from benchmarks.bars.serving.clients import clients_bars
from benchmarks.bars.serving.cost import cost_bars
from benchmarks.bars.serving.overload import overload_bars
from benchmarks.bars.serving.sigterm import sigterm_bars
from benchmarks.environment import describe_environment
from benchmarks.files import write_text
from benchmarks.peers.process import Say
from quant.errors import BadInput, Unsupported

__all__ = ["main"]


@dataclass(frozen=True)
class Given:
    """What is measured.

    Attributes:
        bundle: that is served.
        minutes: of overload.
        requests: that mean harm.
        ends: under load.
        rounds: of the comparison with ONNX Runtime in process.
        seed: of all choices.
    """

    bundle: Path
    minutes: float
    requests: int
    ends: int
    rounds: int
    seed: int


def _hostile(given: Given, folder: Path, say: Say) -> list[Bar]:
    try:
        from benchmarks.bars.serving.hostile import hostile_bars
    except ModuleNotFoundError as error:
        raise Unsupported(f"{error.name} is not installed: pip install 'octavo[dev]'") from error
    return hostile_bars(given.bundle, folder, given.requests, given.seed, say)


_BARS: dict[str, Callable[[Given, Path, Say], list[Bar]]] = {
    "clients": lambda given, folder, say: clients_bars(given.bundle, folder, say),
    "hostile": _hostile,
    "sigterm": lambda given, folder, say: sigterm_bars(given.bundle, folder, given.ends, given.seed, say),
    "cost": lambda given, folder, say: cost_bars(given.bundle, folder, given.rounds, say),
    "overload": lambda given, folder, say: overload_bars(given.bundle, folder, given.minutes, say),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and store ``serving.json``; returns 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.serving", description=__doc__)
    parser.add_argument(
        "--bundle", type=Path, required=True, help="from `octavo package`, for this processor"
    )
    parser.add_argument("--only", default=",".join(_BARS), help="some of them; default: %(default)s")
    parser.add_argument("--minutes", type=float, default=10, help="of overload; default: %(default)s")
    parser.add_argument("--requests", type=int, default=1500, help="that mean harm; default: %(default)s")
    parser.add_argument("--ends", type=int, default=50, help="under load; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=30, help="of the cost; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of all choices; default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bars/serving.json"), help="default: %(default)s"
    )
    told = vars(parser.parse_args(arguments))
    only, out = told.pop("only").split(","), told.pop("out")
    if unknown := [name for name in only if name not in _BARS]:
        raise BadInput(f"--only has {', '.join(unknown)}; allowed are {', '.join(_BARS)}")
    given, console = Given(**told), Console(stderr=True)
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in only:
            place = Path(folder) / name
            place.mkdir()
            bars += _BARS[name](given, place, lambda text: console.print(f"  {text}", style="dim"))
    out.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "environment": asdict(describe_environment()),
        "bundle": given.bundle.name,
        "bars": to_dicts(bars),
    }
    write_text(out, json.dumps(about, indent=2))
    print_bars(bars, Console())
    return 0 if all(bar.reached for bar in bars) else 1


if __name__ == "__main__":
    raise SystemExit(in_one_line("serving", main))
