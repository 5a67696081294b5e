"""Which attention products a target multiplies in INT8; others stay float there, whatever the recipe says.

TensorRT fuses attention with INT8 products for heads of 16, 32 or 64 channels and up to 512 tokens (its
developer guide, "Multi-Head Attention Fusion"). Elsewhere their Q/DQ pairs would break the float16 fusion and
be slower than none.
"""

from torch import fx

from export.passes.base import PassNote
from export.targets import AttentionLimits, Target
from quant.calibrated import CalibratedGraph
from quant.graph.nodes import shape_of
from quant.placement import Site

__all__ = ["declined_attention"]

_PRODUCTS = frozenset({"attention_qk.input", "attention_pv.input", "softmax.output"})


def declined_attention(calibrated: CalibratedGraph, target: Target) -> dict[str, PassNote]:
    """The sites to be left float, with the reason.

    Args:
        calibrated: the graph.
        target: where it will run.

    Returns:
        Site name to a note that names its layer; empty where the target has no limits.
    """
    limits = target.integer_attention
    if limits is None:
        return {}
    sites = [s for s in calibrated.activation_sites() if _PRODUCTS.issuperset(s.roles)]
    sites = [site for site in sites if site.spec.scheme == "uniform"]
    reasons: dict[str, str] = {}
    for site in sites:
        for product in site.node.users:
            reason = _reason(product, "attention_qk.input" in site.roles, limits)
            if reason is not None:
                reasons.setdefault(_module(site), f"left in float: {reason}")
    # Both products of a head are one kernel: it runs in integers as a whole or not at all.
    return {
        site.name: PassNote("integer_attention", site.layer, False, reasons[_module(site)])
        for site in sites
        if _module(site) in reasons
    }


def _module(site: Site) -> str:
    """Of an attention: ``blocks.0.attn`` of ``blocks.0.attn.qk``."""
    return site.layer.rpartition(".")[0]


def _reason(product: fx.Node, scores: bool, limits: AttentionLimits) -> str | None:
    """What the product q kᵀ (``scores``) or that with v breaks."""
    first, second = (shape_of(operand) for operand in product.args[:2])
    size = first[-1] if scores else second[-1]
    if size not in limits.head_sizes:
        return f"heads of {size} channels; integer kernels take {', '.join(map(str, limits.head_sizes))}"
    for tokens in (first[-2], second[-1] if scores else second[-2]):
        if not isinstance(tokens, int) or tokens > limits.tokens:
            return f"{tokens} tokens; integer kernels take up to {limits.tokens}"
    return None
