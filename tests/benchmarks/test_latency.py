import gc
import time
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.latency import LatencySettings, Times, summarize, take_turns
from quant.errors import BadInput


class Recorder:
    """Notes each call in a shared list and takes ``seconds`` for it."""

    def __init__(self, name: str, seen: list[str], seconds: float = 0.0) -> None:
        self.name, self.seen, self.seconds = name, seen, seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        assert not gc.isenabled(), "a collection would land in one variant's time"
        self.seen.append(self.name)
        time.sleep(self.seconds)
        return {}


def test_variants_take_turns_and_the_start_rotates() -> None:
    seen: list[str] = []
    runners = {name: Recorder(name, seen) for name in "abc"}
    times = take_turns(runners, {}, warmup=1, calls=4)
    assert "".join(seen) == "abcbcacababcbcacab"
    assert all(len(t.warmup) == 1 and len(t.steady) == 4 for t in times.values())
    assert gc.isenabled()


def test_garbage_collection_is_restored_after_a_failure() -> None:
    class Broken(Recorder):
        def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
            raise BadInput("refused")

    with pytest.raises(BadInput, match="refused"):
        take_turns({"a": Broken("a", [])}, {}, warmup=0, calls=1)
    assert gc.isenabled()


def test_times_are_milliseconds() -> None:
    times = take_turns({"a": Recorder("a", [], seconds=0.02)}, {}, warmup=0, calls=3)["a"]
    # sleep() never returns early; the upper bound only has to exclude µs and s.
    assert all(20 <= ms < 2000 for ms in (times.first, *times.steady))


def test_figures_come_from_the_steady_calls_only() -> None:
    steady = np.random.default_rng(0).gamma(9, 1, 101)
    times = {
        "fp32": Times(999.0, (500.0,), tuple(2 * steady)),
        "int8": Times(999.0, (500.0,), tuple(steady)),
    }
    figures = summarize(times, "fp32", batch=4, threads=2)
    fp32, int8 = figures["fp32"], figures["int8"]
    assert int8.median_ms == pytest.approx(np.median(steady))
    assert int8.images_per_s == pytest.approx(4000 / np.median(steady))
    assert fp32.speedup is None
    assert int8.speedup is not None
    # Every pair has the ratio 2 exactly, so no resample can give another.
    assert (int8.speedup.value, int8.speedup.low, int8.speedup.high) == pytest.approx((2, 2, 2))


def test_a_slower_variant_has_a_speedup_below_one() -> None:
    times = {"fp32": Times(1.0, (), (1.0, 1.0)), "int8": Times(1.0, (), (2.0, 2.0))}
    speedup = summarize(times, "fp32", batch=1, threads=1)["int8"].speedup
    assert speedup is not None
    assert speedup.value == 0.5


def test_wrong_use_is_refused() -> None:
    with pytest.raises(BadInput):
        take_turns({}, {}, warmup=0, calls=1)
    with pytest.raises(BadInput, match="fp16"):
        summarize({"fp32": Times(1.0, (), (1.0,))}, "fp16", batch=1, threads=1)
    with pytest.raises(ValidationError):
        LatencySettings(calls=0)
    with pytest.raises(ValidationError):
        LatencySettings.model_validate({"cals": 3})
