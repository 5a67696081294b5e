"""What must not happen between two runs, as a person writes it: ``top1 < -0.5``, ``latency_p50 > +5%``."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

from benchmarks.compare.metrics import METRICS, Metric
from quant.errors import BadInput

__all__ = ["Condition", "parse_condition"]

_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*([+\-−]?\d+(?:\.\d+)?)\s*(%?)\s*")
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EXAMPLES = "such as 'top1 < -0.5' (points) or 'latency_p50 > +5%'"


@dataclass(frozen=True)
class Condition:
    """A limit for the change of one figure, which must not hold.

    Attributes:
        text: as it was written.
        metric: the figure.
        sign: ``<``, ``<=``, ``>`` or ``>=``.
        limit: of new minus base in the metric's unit, or in percent of base.
        percent: which of the two.
    """

    text: str
    metric: Metric
    sign: str
    limit: float
    percent: bool

    def holds(self, change: float) -> bool:
        """Whether a change, in the limit's unit, is what must not happen."""
        return _SIGNS[self.sign](change, self.limit)


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises:
        BadInput: it has another form, names no known figure, or gives a share in percent of itself.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise BadInput(
            f"'{text}' is not a condition: write FIGURE, one of < <= > >=, and a limit, {_EXAMPLES}"
        )
    name, sign, number, percent = found.groups()
    if name not in METRICS:
        near = get_close_matches(name, METRICS, 1)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise BadInput(f"'{text}': no figure is called '{name}'{hint} Known: {', '.join(METRICS)}")
    metric = METRICS[name]
    if percent and not metric.relative:
        raise BadInput(f"'{text}': '{name}' changes by {metric.unit}; leave out the %")
    return Condition(" ".join(text.split()), metric, sign, float(number.replace("−", "-")), bool(percent))
