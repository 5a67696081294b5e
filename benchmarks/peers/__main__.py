"""``python -m benchmarks.peers RUN``: what other tools make of a run's float model, beside our variants."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.status import Status
from rich.text import Text

from benchmarks.measure_run import SUMMARY
from benchmarks.peers.registry import PEERS
from benchmarks.peers.results import PeerResults
from benchmarks.peers.run import FOLDER, make_peers
from benchmarks.peers.show import failures, peer_grid
from benchmarks.peers.speed import time_peers
from benchmarks.report.terminal import print_grid
from benchmarks.results import Variant, load_summary
from quant.errors import BadInput, Unsupported

_BAD_INPUT, _INTERRUPTED = 2, 130
_WIDTH = 100
_WIDE = 160


def main(arguments: Sequence[str] | None = None) -> int:
    """Make and judge the peers; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME", help=f"one of {', '.join(PEERS)}; repeatable"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"instead of RUN/{FOLDER}")
    parser.add_argument("--speed", action="store_true", help="also time what was made beside our variants")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    given = parser.parse_args(arguments)
    try:
        results, ours = _make(given.run, given.peer, given.out), _ours(given.run)
        if given.speed:
            results, ours = time_peers(given.run, given.out or given.run / FOLDER, ours)
        if given.json:
            print(results.model_dump_json(indent=2))
        else:
            _print(results, ours)
    except (BadInput, Unsupported) as error:
        return _fail(" ".join(str(error).split()), _BAD_INPUT)
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}", _BAD_INPUT)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on after the last finished step", _INTERRUPTED)
    return 0


def _make(run: Path, names: Sequence[str], out: Path | None) -> PeerResults:
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(Text(text, style="dim"), highlight=False, soft_wrap=True)

    if not console.is_terminal:
        return make_peers(run, names, out, say=say, console=console)
    status = Status("", console=console)
    try:
        return make_peers(run, names, out, say=_stopping(status, say), show=_showing(status), console=console)
    finally:
        status.stop()


def _showing(status: Status) -> Callable[[str], None]:
    def show(line: str) -> None:
        status.update(Text(line[:_WIDTH], style="dim"))
        status.start()

    return show


def _stopping(status: Status, say: Callable[[str], None]) -> Callable[[str], None]:
    """A progress bar cannot be drawn beside a status line, so that each new step ends it."""

    def stop(text: str) -> None:
        status.stop()
        say(text)

    return stop


def _print(results: PeerResults, ours: Sequence[Variant]) -> None:
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width that the table would have to fit
        console = Console(width=_WIDE)
    print_grid(peer_grid(results, ours), console)
    for text in failures(results):
        console.print(Text(text, style="bold red"), highlight=False, soft_wrap=True)


def _ours(run: Path) -> tuple[Variant, ...]:
    """The run's own variants, where it was measured."""
    return load_summary(run / SUMMARY).others if (run / SUMMARY).is_file() else ()


def _fail(message: str, code: int) -> int:
    print(f"octavo: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
