"""A scale between the queries and the keys of an attention, folded into the projections that make them.

The scores are sums over the channels of a head, q · k = Σ_c (s_c q_c) (k_c / s_c), so

    W_q,c ← s_c W_q,c,   b_q,c ← s_c b_q,c,   W_k,c ← W_k,c / s_c,   b_k,c ← b_k,c / s_c
    s_c = (κ_c / θ_c)^a / mean,   θ_c = max |q_c|,  κ_c = max |k_c|

leaves them equal. Where q and k have one scale per tensor, a = 1/2 gives both the same range sqrt(θ_c κ_c) in
each channel, so that no channel of one drowns in the range of the other. ``per: head`` takes one s for all
channels of a head, with θ and κ the largest of the head. Only where q and k are quantized is there anything
to gain: a weight row has a scale of its own.

``search`` takes the exponent with the least error of the scores between sampled queries and keys, each
rounded in the recipe's format with one range for all heads.

Source: balancing two factors is cross-layer equalization (Nagel et al. 2019, section 4.1) applied to a
product of two activations.
"""

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, fx

from quant.graph.nodes import layer_name
from quant.graph.parameters import update_parameter
from quant.methods.attention_paths import QueryKey, find_query_keys
from quant.methods.exponent_search import (
    ExponentOptions,
    best_exponent,
    round_in,
    with_mean_one,
    without_zeros,
)
from quant.methods.registry import MethodNote, register_method
from quant.methods.statistics import Statistics
from quant.recipe import Recipe
from quant.roles import find_places
from quant.spec import QuantSpec

__all__ = ["QueryKeyScale", "QueryKeyScaleOptions"]

NAME = "query_key_scale"
ROWS = 256
"""How many sampled queries meet how many sampled keys in the search."""


class QueryKeyScaleOptions(ExponentOptions):
    """Options.

    Attributes:
        per: one scale per ``head`` or per ``channel`` of each head.
    """

    per: Literal["head", "channel"] = "channel"


@register_method(NAME, QueryKeyScaleOptions)
class QueryKeyScale:
    """The method, see the module's text."""

    def __init__(self, options: QueryKeyScaleOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The projections that make queries and keys."""
        found = [f for f in find_query_keys(graph) if isinstance(f, QueryKey)]
        return list(dict.fromkeys(node for f in found for node in (f.query, f.key)))

    def sampled(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The same, where rows are looked at."""
        return self.watched(graph) if self._options.searches else []

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Balance every attention whose queries and keys are quantized."""
        notes = []
        for found in find_query_keys(graph):
            if not isinstance(found, QueryKey):
                notes.append(MethodNote(NAME, found[0], False, found[1]))
                continue
            spec = _format(graph, found, recipe)
            if spec is None:
                notes.append(MethodNote(NAME, found.layer, False, "its queries and keys are not quantized"))
                continue
            exponent, text = self._exponent(found, seen, spec)
            scale = self._scale(found, seen, exponent)
            _fold(graph, found.query, found.query_rows, scale, seen)
            _fold(graph, found.key, found.key_rows, 1.0 / scale, seen)
            names = " and ".join(dict.fromkeys(map(layer_name, (found.query, found.key))))
            text = f"scales per {self._options.per} folded into {names}, {text}"
            notes.append(MethodNote(NAME, found.layer, True, text))
        return notes

    def _scale(self, found: QueryKey, seen: Statistics, exponent: float) -> Tensor:
        """The scale s, [H, D]."""
        query = seen[found.query].amax.double()[found.query_rows]  # θ [H, D]
        key = seen[found.key].amax.double()[found.key_rows]  # κ [H, D]
        if self._options.per == "head":
            query, key = (m.amax(dim=1, keepdim=True).expand_as(m) for m in (query, key))
        ratio = without_zeros(key) / without_zeros(query)
        return with_mean_one(ratio**exponent)

    def _exponent(self, found: QueryKey, seen: Statistics, spec: QuantSpec) -> tuple[float, str]:
        if self._options.exponent != "search":
            return self._options.exponent, f"exponent {self._options.exponent:g}"
        name = f"{NAME}/{found.layer}/exponent"
        exponent, share = (float(v) for v in seen.once(name, lambda: self._search(found, seen, spec)))
        return exponent, f"exponent {exponent:g}: score error {share:.2f} times the unscaled one"

    def _search(self, found: QueryKey, seen: Statistics, spec: QuantSpec) -> Tensor:
        query = seen.samples[found.query][:, found.query_rows].double()  # [n, H, D]
        key = seen.samples[found.key][:, found.key_rows].double()

        def error(exponent: float) -> float:
            scale = self._scale(found, seen, exponent)
            rounded = round_in(query * scale, spec), round_in(key / scale, spec)
            q, k, rounded_q, rounded_k = (_some(x) for x in (query, key, *rounded))
            return float((rounded_q @ rounded_k.mT - q @ k.mT).square().mean())

        return best_exponent(self._options.candidates, error, error(0.0))


def _some(x: Tensor) -> Tensor:
    """Evenly spaced rows of [n, H, D] as [H, m, D], float64."""
    return x[:: max(1, len(x) // ROWS)].double().movedim(1, 0)


def _format(graph: fx.GraphModule, found: QueryKey, recipe: Recipe) -> QuantSpec | None:
    """The format of the product's operands."""
    for place in find_places(graph):
        if place.role == "attention_qk.input" and place.readers == (found.product,):
            return recipe.spec_for(place.role, place.layer)
    return None


def _fold(graph: fx.GraphModule, linear: fx.Node, rows: Tensor, scale: Tensor, seen: Statistics) -> None:
    """Multiply the output channels ``rows`` of a linear layer by ``scale``, both [H, D]."""
    index, factor = rows.flatten(), scale.flatten()
    update_parameter(graph, linear.args[1], lambda w: w.index_copy(0, index, w[index] * factor[:, None]))
    update_parameter(graph, linear.args[2], lambda b: b.index_copy(0, index, b[index] * factor))
    channels = int(linear.meta["val"].shape[-1])
    whole = torch.ones(channels, dtype=torch.float64).index_copy(0, index, factor)
    seen.rescale(linear, whole, torch.zeros_like(whole))
