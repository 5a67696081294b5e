import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.harness.turns import Times
from benchmarks.latency import LatencySettings, noise_of, summarize
from quant.errors import BadInput

LOAD = {"fp32": [5.0, 7.0, 6.0], "int8": [3.0, 3.0, 9.0]}


def runs(factor: float, steady: np.ndarray) -> list[Times]:
    return [Times(999.0 + p, (500.0,), tuple(factor * row)) for p, row in enumerate(steady)]


def test_figures_come_from_the_steady_calls_of_all_processes() -> None:
    steady = np.random.default_rng(0).gamma(9, 1, (3, 101))
    times = {"fp32": runs(2, steady), "int8": runs(1, steady)}
    figures = summarize(times, LOAD, "fp32", batch=4, threads=2, cpus=(1, 3))
    fp32, int8 = figures["fp32"], figures["int8"]
    assert int8.median_ms == pytest.approx(np.median(steady))
    assert int8.images_per_s == pytest.approx(4000 / np.median(steady))
    assert (int8.load_ms, int8.first_ms, int8.cpus) == (3.0, 1000.0, (1, 3))
    assert int8.warmup_ms == (500.0,) * 3
    np.testing.assert_array_equal(int8.by_process, steady)
    assert fp32.speedup is None
    assert int8.speedup is not None
    # Every process has the ratio 2 exactly, so the interval has no width.
    assert (int8.speedup.value, int8.speedup.low, int8.speedup.high) == pytest.approx((2, 2, 2))
    slower = summarize(times, LOAD, "int8", batch=4, threads=2)["fp32"].speedup
    assert slower is not None
    assert slower.value == pytest.approx(0.5)


@pytest.mark.parametrize(("spread", "quiet"), [(0.01, True), (0.2, False)])
def test_noise_is_the_reference_against_itself(spread: float, quiet: bool) -> None:
    generator = np.random.default_rng(1)
    times = {}
    for name in ("fp32", "int8"):
        times[name] = runs(1, 10 * np.exp(spread * generator.normal(size=(3, 1))) * np.ones((3, 20)))
    figures = summarize(times, LOAD, "fp32", batch=2, threads=1)
    noise = noise_of(figures["fp32"], figures["int8"])
    assert (noise.batch, noise.threads, noise.quiet) == (2, 1, quiet)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(BadInput, match="fp16"):
        summarize({"fp32": runs(1, np.ones((3, 2)))}, LOAD, "fp16", batch=1, threads=1)
    with pytest.raises(ValidationError):
        LatencySettings(calls=0)
    with pytest.raises(ValidationError):
        LatencySettings(processes=1)
    with pytest.raises(ValidationError):
        LatencySettings.model_validate({"cals": 3})
