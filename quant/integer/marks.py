"""Notes that methods leave on graph nodes, for the time when the fake-quant layers stand."""

from torch import fx

from quant.graph.nodes import SHAPE_ONLY, is_call, through

__all__ = ["LAYER_NORM", "SOFTMAX", "has_own_codes"]

LAYER_NORM = "octavo_integer_layer_norm"
"""Key in the meta of a LayerNorm to be computed on integers; the value is the width of its multiplier."""

SOFTMAX = "octavo_log_int_softmax"
"""Key in the meta of a softmax to be computed on integers; the values are the width of its codes, and by how
many bits the codes of the scores are shifted left."""


def has_own_codes(value: fx.Node) -> bool:
    """Whether a value is the result of an integer softmax: it has codes already, and gets no quantizer."""
    *_, source = through(value, lambda node: is_call(node, *SHAPE_ONLY))
    return SOFTMAX in source.meta
