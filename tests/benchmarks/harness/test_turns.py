import pytest

from benchmarks.harness.turns import take_turns
from quant.errors import BadInput


class Recorder:
    """Notes the calls of each turn; its n-th call ever takes n ms."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen, self.made = name, seen, 0

    def run(self, calls: int) -> list[float]:
        self.seen.append(self.name * calls)
        self.made += calls
        return [float(n) for n in range(self.made - calls + 1, self.made + 1)]


def test_models_take_turns_and_the_start_rotates() -> None:
    seen: list[str] = []
    rounds: list[int] = []
    names = {name: Recorder(name, seen) for name in "abc"}
    times = take_turns(names, warmup=2, calls=7, turn=3, on_round=rounds.append)
    begun, turns = seen[:6], seen[6:]
    assert begun == ["a", "b", "c", "aa", "bb", "cc"]
    # Three calls and the one before them that is not counted; the last turn has what is left.
    assert turns == ["aaaa", "bbbb", "cccc", "bbbb", "cccc", "aaaa", "cc", "aa", "bb"]
    assert rounds == [3, 3, 1]
    for own in times.values():
        assert (own.first, own.warmup) == (1.0, (2.0, 3.0))
        assert own.steady == (5.0, 6.0, 7.0, 9.0, 10.0, 11.0, 13.0)


@pytest.mark.parametrize("wrong", [{"warmup": -1}, {"calls": 0}, {"turn": 0}])
def test_wrong_use_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput):
        take_turns({"a": Recorder("a", [])}, **{"warmup": 0, "calls": 1, "turn": 1} | wrong)
    with pytest.raises(BadInput):
        take_turns({}, warmup=0, calls=1, turn=1)
