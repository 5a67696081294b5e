"""Change a calibrated graph's weights, biases and grids, and remember what was changed."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, fx

from quant.graph.nodes import constant_name, tensor_of
from quant.graph.parameters import set_parameter
from quant.placement import Site
from quant.qparams import QParams

__all__ = ["Changes", "TunedParameters", "observe_weight"]


@dataclass(frozen=True, eq=False)
class Changes:
    """What tuning changed, to be stored.

    Attributes:
        parameters: new values by the parameter's name.
        grids: scales and zero points of weights, by site, in the recipe's own format.
        ranges: bounds of activations by site, (low, high), each of the shape of the scales, float64.
    """

    parameters: dict[str, Tensor] = field(default_factory=dict)
    grids: dict[str, QParams] = field(default_factory=dict)
    ranges: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)


class TunedParameters:
    """The one way in which methods change a calibrated graph, whose layers quantize in the recipe's formats.

    Attributes:
        graph: the calibrated graph.
        changes: everything changed so far.
    """

    def __init__(self, graph: fx.GraphModule, changes: Changes) -> None:
        self.graph = graph
        self.changes = changes

    def get(self, name: str) -> Tensor:
        """The parameter called ``name``."""
        return tensor_of(self.graph, name).detach()

    def set(self, name: str, value: Tensor) -> None:
        """Replace a parameter by a tensor of the same shape."""
        old = tensor_of(self.graph, name)
        new = value.detach().to(old.dtype).reshape(old.shape).clone()
        set_parameter(self.graph, name, new)
        self.changes.parameters[name] = new

    def set_weight(self, site: Site, value: Tensor, grid: QParams | None = None) -> None:
        """Replace a quantized weight.

        Args:
            site: its site.
            value: the float weight; values off the grid are rounded to it by the fake-quant layer.
            grid: scale and zero point to keep; None lets the site's observer choose them for the new weight.
        """
        name = constant_name(site.node.args[0])
        assert name is not None
        self.set(name, value)
        if grid is not None:
            self.set_grid(site, grid)
            return
        self.changes.grids.pop(site.name, None)
        site.quantizer.fix_grid(None)
        observe_weight(self.graph, site)
        site.quantizer.freeze()
        site.quantizer.quantize()

    def set_grid(self, site: Site, grid: QParams) -> None:
        """Fix the scale and zero point of a weight."""
        site.quantizer.fix_grid(grid)
        site.quantizer.freeze()
        self.changes.grids[site.name] = grid

    def set_range(self, site: Site, low: Tensor, high: Tensor) -> None:
        """Fix the range of an activation; every target derives its own scale and zero point from it."""
        bounds = low.detach().double(), high.detach().double()
        site.quantizer.fix_range(*bounds)
        site.quantizer.freeze()
        self.changes.ranges[site.name] = bounds

    def replay(self, sites: dict[str, Site], changes: Changes) -> None:
        """Make stored changes again in a graph just prepared; its weights are observed afterwards."""
        for name, value in changes.parameters.items():
            set_parameter(self.graph, name, value)
        for name, grid in changes.grids.items():
            sites[name].quantizer.fix_grid(grid)
        for name, (low, high) in changes.ranges.items():
            sites[name].quantizer.fix_range(low, high)


@torch.no_grad()
def observe_weight(graph: fx.GraphModule, site: Site) -> None:
    """Let a weight's observer see the present weight, and nothing before it."""
    name = constant_name(site.node.args[0])
    assert name is not None
    site.quantizer.forget()
    site.quantizer.observe()
    site.quantizer(tensor_of(graph, name))
    site.quantizer.off()
