"""Bit flips of a whole network's integer products."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quant.census import LayerCount
from quant.energy.additions import AddedLayer
from quant.energy.bits import LayerBits
from quant.energy.toggles import mac_flips

__all__ = ["Flips", "flips_of"]

_INTEGERS = frozenset(range(2, 9))


@dataclass(frozen=True)
class Flips:
    """Bit flips of the integer multiply-accumulates, the mean over them.

    Attributes:
        share: of all multiply-accumulates that are integers, 0 to 1.
        signed: bit flips of each in signed arithmetic.
        unsigned: the same in unsigned arithmetic, whose result is the same (:mod:`quant.energy.unsigned`).
        additions: bit flips of each where products are repeated additions; None where none are.
    """

    share: float
    signed: float
    unsigned: float
    additions: float | None = None


def flips_of(
    census: Sequence[LayerCount], bits: Mapping[str, LayerBits], added: Mapping[str, AddedLayer]
) -> Flips | None:
    """Bit flips of a network's integer products, each layer by its multiply-accumulates.

    Args:
        census: the layers.
        bits: their widths.
        added: those that add repeatedly; their weights count with 8 bits where a multiplier is meant.
    """
    total = sum(layer.macs for layer in census)
    whole = [c for c in census if {bits[c.name].weight, bits[c.name].activation} <= _INTEGERS]
    macs = sum(layer.macs for layer in whole)
    if not macs:
        return None

    def mean(flips: Mapping[str, float]) -> float:
        return sum(layer.macs * flips[layer.name] for layer in whole) / macs

    def multiplied(signed: bool) -> dict[str, float]:
        widths = {c.name: (bits[c.name].weight, bits[c.name].activation) for c in whole}
        return {name: mac_flips(*pair, signed=signed).total for name, pair in widths.items()}

    unsigned = multiplied(signed=False)
    adding = unsigned | {name: layer.power for name, layer in added.items()}
    return Flips(
        share=macs / total,
        signed=mean(multiplied(signed=True)),
        unsigned=mean(unsigned),
        additions=mean(adding) if added else None,
    )
