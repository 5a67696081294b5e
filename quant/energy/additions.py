"""Layers whose products are repeated additions (PANN), and joules from bit flips.

Dynamic energy is proportional to bit flips, E = P · E_flip. One flip is what makes a signed 8-bit
multiply-accumulate, counted by :func:`quant.energy.toggles.mac_flips`, cost what
:func:`quant.energy.model.mac_energy` says:

    E_flip = E_MAC(8, 8) / P_signed(8, 8) = 0.3 pJ / 72 = 4.2 fJ

At 4 bits the two models meet again: 36 flips and 0.15 pJ.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from quant.calibrated import CalibratedGraph
from quant.census import LayerCount
from quant.energy.bits import bits_of
from quant.energy.model import DEFAULTS, EnergySettings, ModelEnergy, mac_energy
from quant.energy.pann import Candidate, additions_of, power, weight_codes
from quant.energy.toggles import mac_flips
from quant.graph.nodes import constant_name, tensor_of
from quant.methods.pann import NAME as PANN

__all__ = ["AddedLayer", "added_layers", "joules_per_flip", "with_additions"]


@dataclass(frozen=True)
class AddedLayer:
    """A layer without a multiplier.

    Attributes:
        activation_bits: b_x, of its input.
        additions: R, the mean of its weight's codes.
        largest_code: max |w_q|.
    """

    activation_bits: int
    additions: float
    largest_code: int

    @property
    def power(self) -> float:
        """P = (R + 0.5) b_x, bit flips per weight and product."""
        return power(Candidate(self.activation_bits, self.additions))

    @property
    def storage_bits(self) -> int:
        """Bits of a stored code: its magnitude, and which of W⁺ and W⁻ it belongs to."""
        return self.largest_code.bit_length() + 1


def added_layers(calibrated: CalibratedGraph, census: tuple[LayerCount, ...]) -> dict[str, AddedLayer]:
    """The layers whose weights the method ``pann`` set, by name.

    Args:
        calibrated: of a recipe with that method; of any other there are none.
        census: the layers of the network.
    """
    layers = {note.layer for note in calibrated.notes if note.method == PANN and note.applied}
    widths = bits_of(calibrated.recipe, (layer for layer in census if layer.name in layers))
    found = {}
    for site in calibrated.weight_sites():
        if site.layer not in layers:
            continue
        grid = calibrated.changes.grids[site.name]  # one step for the whole weight
        weight = tensor_of(calibrated.graph, str(constant_name(site.node.args[0])))
        codes = weight_codes(weight, float(grid.scale.flatten()[0]))
        found[site.layer] = AddedLayer(
            widths[site.layer].activation, additions_of(codes), int(codes.abs().max())
        )
    return found


def joules_per_flip(settings: EnergySettings = DEFAULTS) -> float:
    """E_flip, see the module's text."""
    return mac_energy(8, 8, settings) / mac_flips(8, 8, signed=True).total


def with_additions(
    energy: ModelEnergy,
    census: tuple[LayerCount, ...],
    added: Mapping[str, AddedLayer],
    settings: EnergySettings = DEFAULTS,
) -> ModelEnergy:
    """The energy where some layers add repeatedly instead of multiplying.

    ``E = N_MAC · P · E_flip`` for their arithmetic; their weights move in ``storage_bits``.

    Args:
        energy: of the network with multipliers.
        census: the layers it is of.
        added: the layers without multipliers.
        settings: those that ``energy`` was modelled with.
    """
    counts = {layer.name: layer for layer in census}
    flip, weight_bit = joules_per_flip(settings), settings.constants.per_bit(settings.weights)
    layers = []
    for layer in energy.layers:
        if layer.name in added:
            own, count = added[layer.name], counts[layer.name]
            layer = replace(
                layer,
                bits=replace(layer.bits, weight=own.storage_bits),
                macs=count.macs * own.power * flip,
                weights=count.weights * own.storage_bits * settings.weight_reads * weight_bit,
            )
        layers.append(layer)
    return ModelEnergy(tuple(layers))
