"""Time several models against each other, each in its own process, taking turns.

A shared machine changes speed within seconds. Timing one model after the other turns such a change into a
difference between models; taking turns lets it hit all of them, so that ratios hold where absolute times do
not. Only one process runs at a time. A turn is several calls in a row, and a call before them is not counted:
it finds the caches as another model left them, which is not how a deployed model runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from quant.errors import BadInput

__all__ = ["Callee", "Times", "take_turns"]


class Callee(Protocol):
    """What can be timed."""

    def run(self, calls: int) -> list[float]:
        """Call the model and give the time of each call in ms."""
        ...


@dataclass(frozen=True)
class Times:
    """Every call of one process, in the order it was made, in ms."""

    first: float
    warmup: tuple[float, ...]
    steady: tuple[float, ...]


def take_turns(
    callees: Mapping[str, Callee],
    *,
    warmup: int,
    calls: int,
    turn: int,
    on_round: Callable[[int], None] = lambda _: None,
) -> dict[str, Times]:
    """Give each model its turn, round after round, and keep every counted time.

    The model that starts changes from round to round.

    Args:
        callees: variant name to what runs it.
        warmup: calls of each that are kept apart, after its very first one.
        calls: steady calls of each.
        turn: at most so many of them in one turn.
        on_round: told how many steady calls each made in it, outside the timed part.

    Raises:
        BadInput: there is nothing to time, ``warmup`` is negative, or ``calls`` or ``turn`` is not positive.
    """
    if not callees or warmup < 0 or calls < 1 or turn < 1:
        raise BadInput(
            f"timing needs a model, warmup >= 0, calls >= 1 and turn >= 1, got {warmup=}, {calls=}, {turn=}"
        )
    names = list(callees)
    first = {name: callees[name].run(1)[0] for name in names}
    begun = {name: callees[name].run(warmup) for name in names}
    steady: dict[str, list[float]] = {name: [] for name in names}
    for number, done in enumerate(range(0, calls, turn)):
        start = number % len(names)
        now = min(turn, calls - done)
        for name in names[start:] + names[:start]:
            steady[name] += callees[name].run(1 + now)[1:]
        on_round(now)
    return {name: Times(first[name], tuple(begun[name]), tuple(steady[name])) for name in names}
