"""A short form of ``python -m benchmarks.bars.serving --only sigterm``."""

from pathlib import Path

import pytest

from benchmarks.bars.serving.samples import make_samples
from benchmarks.bars.serving.sigterm import end_under_load


@pytest.mark.parametrize("seed", [0, 1])  # of 0 the queue is short, so that the end meets refusals
def test_an_end_under_load_loses_no_request(bundle: Path, tmp_path: Path, seed: int) -> None:
    end = end_under_load(bundle, make_samples(bundle), tmp_path / "log", seed)
    assert end.problems == []
    assert end.answered["200"] > 0
    assert end.answered["OK"] > 0
    assert bool(end.answered["429"]) == (seed == 0)
