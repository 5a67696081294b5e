"""Feed g − c instead of g = GELU(x) into the linear layer behind it, so that symmetric codes lose nothing.

    y = W (g − c) + b~,    b~ = b + W @ (c · 1)

GELU returns (−0.17, max]: a symmetric format spends half of its codes on values that never come. With c in
the middle of the range, g − c fills both halves, and a target whose activations have zero point 0 (such as
TensorRT) keeps the effective bits of an affine format. The subtraction is one elementwise operator, which
compilers fuse with GELU.

Much of what GELU returns in the deep blocks of a trained network is almost zero, so g = 0 must go on having a
code of its own. With L = 2^(bits−1) − 1,

    n = floor(L (high + low) / (high − low)),    σ = high / (L + n),    c = n σ

makes zero the code −n of the scale σ, and the range [low − c, high − c] fits [−L σ, L σ], which the quantizer
is then given. low and high are what the recipe's observer finds: in all values of the statistics' images
where it takes their minimum and maximum (``minmax``), else in sampled rows. Units that a side path carries do
not count, and the side path goes on reading g.

W is rounded, too, to Ŵ, and what it is rounded by meets the constant: each output moves by −c (Ŵ − W) @ 1,
which with 768 units of 8 bits is far more than all other errors. ``bias_correction`` takes exactly that back,
so the method does nothing in a recipe that does not name it later on.

Source: elementary; a constant moves from the input of a linear layer into its bias.
"""

from collections.abc import Collection

import torch
from torch import Tensor, fx

from quant.graph.nodes import constant_name, tensor_of
from quant.graph.parameters import is_private, update_parameter
from quant.methods.exponent_search import BIAS_METHOD
from quant.methods.gelu_linear import GeluLinear, find_gelu_linears
from quant.methods.insert import derive, insert_in_front
from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.methods.side_path import CLIPPED_UNITS
from quant.methods.statistics import Statistics
from quant.observers import make_observer
from quant.placement import FIXED_RANGE, spec_at
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
        corrects_bias = any(method.name == BIAS_METHOD for method in recipe.methods)
        for found in find_gelu_linears(graph):
            spec = spec_at(recipe, "linear.input", found.linear)
            if spec is None:
                continue
            weight, bias = [*found.linear.args[1:], None][:2]
            reason = None
            if spec.scheme != "uniform" or spec.granularity != "per_tensor":
                reason = "its input has no uniform scale for the whole tensor"
            elif bias is None or constant_name(weight) is None:
                reason = "it has no bias to fold into, or its weight is computed"
            elif not is_private(graph, bias):
                reason = "its bias is computed, or shared with another layer"
            elif spec_at(recipe, "linear.weight", found.linear) is not None and not corrects_bias:
                reason = (
                    f"the recipe names no {BIAS_METHOD}, without which rounded weights shift every output"
                )
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
    low, high = seen.once(f"{NAME}/{found.layer}/range", lambda: _range(found, seen, spec)).double()
    levels = (1 << (spec.bits - 1)) - 1  # L
    zero = torch.floor(levels * (high + low) / (high - low)).clamp(min=0)  # n
    step = torch.maximum(high / (levels + zero), -low / (levels - zero))  # σ; the second counts where n is 0
    centre = (zero * step).float()
    weight, bias = found.linear.args[1:3]
    total = tensor_of(graph, str(constant_name(weight))).detach().double().sum(dim=1)  # W @ 1
    update_parameter(graph, bias, lambda b: b + total * centre.double())
    centred = insert_in_front(graph, found.linear, aten.sub.Tensor, centre=centre)
    centred.meta[FIXED_RANGE] = (-levels * step, levels * step)
    ones = torch.ones_like(seen[found.gelu].low)
    derive(seen, centred, found.gelu, ones, -centre * ones)
    return float(centre)


def _range(found: GeluLinear, seen: Statistics, spec: QuantSpec) -> Tensor:
    """Low and high, widened to hold zero, [2]."""
    clipped = set(found.linear.meta.get(CLIPPED_UNITS, ()))
    bounds = seen[found.gelu]
    kept = [c for c in range(len(bounds.low)) if c not in clipped]
    low, high = bounds.low[kept].min(), bounds.high[kept].max()
    if spec.observer != "minmax":
        affine = spec.model_copy(update={"symmetric": False, "signed": False, "narrow": False})
        observer = make_observer(affine)
        observer.update(seen.samples[found.gelu][:, kept])
        low, high = observer.range()
    return torch.stack([low.clamp(max=0.0), high.clamp(min=1e-6)])
