"""Feed g − c instead of g = GELU(x) into the linear layer behind it, so that symmetric codes lose nothing.

    y = W (g − c) + b~,    b~ = b + W @ (c · 1)

GELU returns (−0.17, max]: a symmetric format spends half of its codes on values that never come. With c in
the middle of the calibrated range, g − c fills both halves, and a target whose activations have zero point 0
(such as TensorRT) keeps the 8 effective bits of an affine format. The subtraction is one elementwise
operator, which compilers fuse with GELU.

c is the middle of the range that the recipe's observer finds: in all values of the calibration images where
that is their minimum and maximum (``minmax``), else in sampled rows. Units that a side path carries do not
count, and the side path goes on reading g.

Source: elementary; a constant moves from the input of a linear layer into its bias.
"""

from collections.abc import Collection

import torch
from torch import Tensor, fx

from quant.graph.nodes import constant_name, tensor_of
from quant.graph.parameters import is_private, update_parameter
from quant.methods.gelu_linear import GeluLinear, find_gelu_linears
from quant.methods.insert import derive, insert_in_front
from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.methods.side_path import CLIPPED_UNITS
from quant.methods.statistics import Statistics
from quant.observers import make_observer
from quant.placement import spec_at
from quant.recipe import Recipe
from quant.spec import QuantSpec

__all__ = ["CentredGelu", "CentredGeluOptions"]

aten = torch.ops.aten
NAME = "centred_gelu"


class CentredGeluOptions(MethodOptions):
    """There are none."""


@register_method(NAME, CentredGeluOptions)
class CentredGelu:
    """The method, see the module's text."""

    def __init__(self, options: CentredGeluOptions) -> None:
        del options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """What the linear layers behind a GELU read."""
        return [found.gelu for found in find_gelu_linears(graph)]

    def sampled(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The same."""
        return self.watched(graph)

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Put the subtraction in front of each quantized linear layer behind a GELU."""
        notes = []
        for found in find_gelu_linears(graph):
            spec = spec_at(recipe, "linear.input", found.linear)
            if spec is None:
                continue
            weight, bias = [*found.linear.args[1:], None][:2]
            reason = None
            if bias is None or constant_name(weight) is None:
                reason = "it has no bias to fold into, or its weight is computed"
            elif not is_private(graph, bias):
                reason = "its bias is computed, or shared with another layer"
            if reason is not None:
                notes.append(MethodNote(NAME, found.layer, False, reason))
                continue
            centre = _centre(graph, found, seen, spec)
            notes.append(MethodNote(NAME, found.layer, True, f"{centre:.3g} subtracted behind GELU"))
        graph.graph.lint()
        graph.recompile()
        return notes


def _centre(graph: fx.GraphModule, found: GeluLinear, seen: Statistics, spec: QuantSpec) -> float:
    """Change the graph, and return c."""
    centre = seen.once(f"{NAME}/{found.layer}/centre", lambda: _middle(found, seen, spec))
    weight, bias = found.linear.args[1:3]
    total = tensor_of(graph, str(constant_name(weight))).detach().double().sum(dim=1)  # W @ 1
    update_parameter(graph, bias, lambda b: b + total * centre.double())
    centred = insert_in_front(graph, found.linear, aten.sub.Tensor, centre=centre)
    ones = torch.ones_like(seen[found.gelu].low)
    derive(seen, centred, found.gelu, ones, -centre * ones)
    return float(centre)


def _middle(found: GeluLinear, seen: Statistics, spec: QuantSpec) -> Tensor:
    """c, float32 []."""
    clipped = set(found.linear.meta.get(CLIPPED_UNITS, ()))
    bounds = seen[found.gelu]
    kept = [c for c in range(len(bounds.low)) if c not in clipped]
    low, high = bounds.low[kept].min(), bounds.high[kept].max()
    if spec.observer != "minmax" and spec.granularity == "per_tensor":
        observer = make_observer(spec)
        observer.update(seen.samples[found.gelu][:, kept])
        low, high = observer.range(
            spec.model_copy(update={"symmetric": False, "signed": False, "narrow": False})
        )
    return ((low + high) / 2).float()
