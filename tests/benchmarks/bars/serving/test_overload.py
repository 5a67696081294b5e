"""When memory counts as flat."""

import pytest

from benchmarks.bars.serving.overload import memory_bars


def _reached(memory: list[float]) -> list[bool]:
    return [bar.reached for bar in memory_bars(memory)]


def test_memory_that_rises_in_the_warm_up_only_is_flat() -> None:
    assert _reached([100.0] * 10 + [200 + i % 3 for i in range(500)]) == [True, True, True]


@pytest.mark.parametrize("percent", [6, 50])
def test_memory_that_grows_slowly_is_not(percent: float) -> None:
    memory = [200 * (1 + percent / 100 * i / 600) for i in range(700)]
    assert _reached(memory) == [True, False, False]


def test_a_peak_between_is_told() -> None:
    memory = [200.0] * 600
    memory[300] = 220
    assert _reached(memory) == [True, True, False]


def test_a_server_that_ended_crashed() -> None:
    assert _reached([200.0] * 100 + [0.0])[0] is False
