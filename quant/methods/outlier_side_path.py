"""A float side path for the few hidden units whose range would spoil the scale of all others.

A unit c of the tensor behind GELU is an outlier when m_c > threshold · median_c(m_c), m_c = max |x_c|. With O
the outlier units::

    y = W[:, ~O] q(x[:, ~O]) + b + x[:, O] W[:, O]ᵀ

The second product is float and has |O| columns. Instead of cutting the tensor, W[:, O] is set to zero in the
integer weight and the quantizer, whose range leaves O out, clips those units.

Source: section 3.1 of LLM.int8() (Dettmers et al. 2022), which splits outlier columns dynamically; here they
are fixed at calibration.
"""

from collections.abc import Collection

from pydantic import Field
from torch import fx

from quant.methods.gelu_linear import find_gelu_linears
from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.methods.side_path import CLIPPED_UNITS, add_side_path, outlying_units
from quant.methods.statistics import Statistics
from quant.placement import spec_at
from quant.recipe import Recipe

__all__ = ["CLIPPED_UNITS", "OutlierSidePath", "OutlierSidePathOptions"]

NAME = "outlier_side_path"


class OutlierSidePathOptions(MethodOptions):
    """Options.

    Attributes:
        threshold: how many times the median range makes a unit an outlier.
        most: where more units than this share of all stand out, the layer is left alone.
    """

    threshold: float = Field(default=4.0, gt=1.0)
    most: float = Field(default=0.05, gt=0.0, le=1.0)


@register_method(NAME, OutlierSidePathOptions)
class OutlierSidePath:
    """The method, see the module's text."""

    def __init__(self, options: OutlierSidePathOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """Every GELU in front of a linear layer."""
        return [found.gelu for found in find_gelu_linears(graph)]

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Give a side path to each quantized layer that has outliers."""
        notes = []
        for found in find_gelu_linears(graph):
            if spec_at(recipe, "linear.input", found.linear) is None:
                continue
            units = outlying_units(seen[found.gelu], self._options.threshold)
            reason: str | None
            if CLIPPED_UNITS in found.linear.meta:
                reason = "it has a side path already"
            elif found.reason is None and not units:
                reason = f"no unit beyond {self._options.threshold:g} times the median"
            elif len(units) > self._options.most * len(seen[found.gelu].low):
                reason = f"{len(units)} units stand out, too many for a side path"
            else:
                reason = found.reason
            if reason is None:
                add_side_path(graph, found.linear, units)
                peak = float(seen[found.gelu].amax.max())
                reason = f"units {', '.join(map(str, units))} (up to {peak:.1f}) computed in float"
                notes.append(MethodNote(NAME, found.layer, True, reason))
            else:
                notes.append(MethodNote(NAME, found.layer, False, reason))
        graph.graph.lint()
        graph.recompile()
        return notes
