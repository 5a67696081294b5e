"""A calibrated graph whose layers add repeatedly instead of multiplying, at any budget."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from quant.calibrated import CalibratedGraph
from quant.energy.additions import AddedLayer
from quant.energy.pann import Candidate, additions_of, budget_of_bits, weight_codes, weight_step
from quant.errors import Unsupported
from quant.graph.nodes import constant_name, tensor_of
from quant.mixed.formats import Formats
from quant.mixed.groups import Group, find_groups
from quant.qparams import MIN_SCALE

__all__ = ["AddedGraph"]

_BITS = 8
"""Of a weight whose step the method sets; nothing clips its codes, so that they may have more."""


class AddedGraph:
    """Switches a graph's layers between additions and multipliers.

    Attributes:
        calibrated: the graph.
        groups: the layers that can add: integer inputs, weights of 8 bits, signed and symmetric.
        formats: switches their widths; everything else is as the recipe says.
    """

    def __init__(self, calibrated: CalibratedGraph, bits: Sequence[int]) -> None:
        """Freeze the layers at all widths.

        Args:
            calibrated: without tuned weights.
            bits: those of inputs and multipliers that will be asked for.

        Raises:
            Unsupported: there is no such layer.
        """
        self.calibrated = calibrated
        self.groups = [group for group in find_groups(calibrated) if _fits(group)]
        if not self.groups:
            raise Unsupported(
                f"recipe {calibrated.recipe.name}: PANN needs layers with integer inputs and weights of "
                f"{_BITS} bits, signed and symmetric"
            )
        self.formats = Formats(calibrated, self.groups, sorted({_BITS, *bits}))

    @torch.no_grad()
    def add(self, candidate: Candidate) -> dict[str, AddedLayer]:
        """Let every layer add: inputs of b_x bits, and the step γ_w = ‖w‖₁ / (R d) for each weight.

        Returns:
            What each layer became, by name.
        """
        self.formats.set_all({group.name: candidate.activation_bits for group in self.groups})
        found = {}
        for site in (site for group in self.groups for site in group.sites if site.is_weight):
            weight = tensor_of(self.calibrated.graph, str(constant_name(site.node.args[0])))
            step = max(weight_step(weight, candidate.additions), MIN_SCALE)
            codes = weight_codes(weight, step)
            largest = int(codes.abs().max())
            grid = self.formats.qparams(site, _BITS)
            assert grid is not None
            scale = torch.full_like(grid.scale, step)
            site.quantizer.set_qparams(
                replace(grid, scale=scale, qmin=-max(largest, 1), qmax=max(largest, 1))
            )
            found[site.layer] = AddedLayer(candidate.activation_bits, additions_of(codes), largest)
        return found

    def multiply(self, bits: int) -> dict[str, AddedLayer]:
        """Let every layer multiply: weights and inputs of this width.

        Returns:
            Additions that flip as many bits as unsigned multipliers do, by layer.
        """
        self.formats.set_all({group.name: bits for group in self.groups})
        flips = AddedLayer(bits, budget_of_bits(bits) / bits - 0.5, 2 ** (bits - 1) - 1)
        return {layer: flips for group in self.groups for layer in group.layers}


def _fits(group: Group) -> bool:
    """As the method ``pann`` asks for."""
    weights = [site.spec for site in group.sites if site.is_weight]
    inputs = [site.spec for site in group.sites if not site.is_weight]
    return (
        bool(inputs)
        and all(spec.scheme == "uniform" for spec in (*inputs, *weights))
        and all(spec.bits == _BITS and spec.signed and spec.symmetric for spec in weights)
    )
