import sys
import time
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pytest

from benchmarks.harness.loadgen import Load, generate
from quant.errors import BadInput, Unsupported

IMAGES = np.arange(8, dtype=np.float32).reshape(8, 1)


class Sleeper:
    """Takes ``seconds`` for a call, whatever is in it, and notes how many images it got."""

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        self.seconds, self.error = seconds, error
        self.sizes: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        self.sizes.append(len(feeds["x"]))
        time.sleep(self.seconds)
        return {}


def test_without_loadgen_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(Unsupported, match=r"pip install 'octavo\[loadgen\]'"):
        generate(Sleeper(0), "x", IMAGES, Load("server", 1, 1))


@pytest.mark.parametrize(
    "wrong", [{"scenario": "burst"}, {"rate": 0}, {"seconds": -1}, {"batch": 0}, {"latency_ms": 0}]
)
def test_loads_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Load(**{"scenario": "server", "rate": 1.0, "seconds": 1.0} | wrong)


class TestWithLoadGen:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("mlperf_loadgen", reason="the extra loadgen is not installed")

    def test_images_arrive_one_by_one_at_the_rate(self) -> None:
        model = Sleeper(0.0005)
        found = generate(model, "x", IMAGES, Load("server", 500, 1.0, latency_ms=200))
        assert set(model.sizes) == {1}
        # 500 or more arrivals of a Poisson process: the rate is within 20 %, 4.5 standard deviations.
        assert found["images_per_s"] == pytest.approx(500, rel=0.2)
        assert 0.5 <= found["p50_ms"] <= found["p90_ms"] <= found["p99_ms"]

    def test_waiting_counts_where_the_model_falls_behind(self) -> None:
        found = generate(Sleeper(0.004), "x", IMAGES, Load("server", 1000, 0.5, latency_ms=20))
        # At 1,000 arrivals a second and at most 250 answers, the last of 500 waits for most of two seconds.
        assert found["p99_ms"] > 500
        assert not found["valid"]
        assert found["reasons"]

    def test_offline_fills_the_batches(self) -> None:
        model = Sleeper(0.002)
        found = generate(model, "x", IMAGES, Load("offline", 2000, 0.2, batch=8))
        assert set(model.sizes[:-1]) == {8}
        assert 400 < found["images_per_s"] < 4000

    def test_what_the_model_cannot_do_is_raised_here(self) -> None:
        with pytest.raises(Unsupported, match="no kernel"):
            generate(Sleeper(0, Unsupported("no kernel")), "x", IMAGES, Load("server", 1000, 0.1))
