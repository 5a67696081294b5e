"""Energy of a variant, as the charts and the overview show it."""

from dataclasses import dataclass

from benchmarks.results import Variant

__all__ = ["Energy", "energy_of"]


@dataclass(frozen=True)
class Energy:
    """A figure and its unit, e.g. 12.5 and "mJ per image, modelled"."""

    value: float
    unit: str


def energy_of(variant: Variant) -> Energy | None:
    """The modelled energy of an image: known on any machine, and free of what else the machine does."""
    return None if variant.energy is None else Energy(variant.energy.modelled_mj, "mJ per image, modelled")
