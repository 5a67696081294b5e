"""Which layers a method that rounds weights takes."""

from quant.tuning.layer import Layer

__all__ = ["why_not"]


def why_not(layer: Layer, up_to_bits: int) -> str | None:
    """The reason for which a layer's weight is left as it is, or None.

    Args:
        layer: the layer.
        up_to_bits: the widest format for which the method's effort pays.
    """
    spec = layer.weight_site.spec
    if spec.scheme != "uniform":
        return f"its codes are '{spec.scheme}', not uniform"
    if spec.bits > up_to_bits:
        return f"its {spec.bits} bits are more than up_to_bits {up_to_bits}"
    return None
