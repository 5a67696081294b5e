"""Energy of a variant, where its run has any.

A summary may carry a variant's energy as one record of figures. The unit is told by the figure's name, as
everywhere in a summary (``median_ms``, ``peak_mib``): ``mj_per_image`` is millijoules per image.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.results import Variant

__all__ = ["Energy", "energy_of"]

_UNITS = {
    "j": "J",
    "joules": "J",
    "mj": "mJ",
    "millijoules": "mJ",
    "uj": "µJ",
    "microjoules": "µJ",
    "nj": "nJ",
}
_EACH = ("image", "inference", "call")


@dataclass(frozen=True)
class Energy:
    """A figure and its unit, e.g. 12.5 and "mJ per image"."""

    value: float
    unit: str


def energy_of(variant: Variant) -> Energy | None:
    """The first figure of the variant's energy that says by its name that it is for one image or call."""
    for path, value in _flat(variant.model_dump().get("energy"), ("energy",)):
        words = "_".join(path).lower().split("_")
        unit = next((_UNITS[word] for word in words if word in _UNITS), None)
        each = next((word for word in _EACH if word in words), None)
        if unit and each:
            return Energy(value, f"{unit} per {each}")
    return None


def _flat(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _flat(entry, (*path, str(key)))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)
