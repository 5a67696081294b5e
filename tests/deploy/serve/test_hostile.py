"""A short form of ``python -m benchmarks.bars.serving --only hostile``."""

from pathlib import Path

from benchmarks.bars.serving.attempt import Limits
from benchmarks.bars.serving.hostile import besiege
from benchmarks.bars.serving.samples import make_samples
from benchmarks.bars.serving.served import served


def test_nothing_that_is_sent_breaks_the_server_or_learns_of_its_inside(bundle: Path, tmp_path: Path) -> None:
    limits = Limits()
    with served(bundle, tmp_path / "log", limits.options) as server:
        siege = besiege(server, make_samples(bundle), limits, 150, 1, lambda _: None)
        bugs = [line for line in server.lines() if line.get("event") == "bug" or "text" in line]
    assert siege.sent.total() >= 140  # where a kind has fewer different ones, fewer are drawn
    assert siege.broken == []
    assert siege.unwell == []
    assert bugs == []
