"""Fake-quantization with one scale per channel, as an ONNX function.

A QuantizeLinear per channel would say the same. But ONNX Runtime's fusions expect one scale per activation,
and the arithmetic here is PyTorch's: multiplication by the reciprocal scale, in float32.
"""

import torch
from torch import Tensor

__all__ = ["BODY", "NAME", "channel_codes_node"]

NAME = "ChannelQuantizeDequantize"

BODY = """
ChannelQuantizeDequantize (x, inverse, scale, zero_point, lowest, highest) => (y)
{
  steps = Mul (x, inverse)
  rounded = Round (steps)
  codes = Add (rounded, zero_point)
  raised = Max (codes, lowest)
  clipped = Min (raised, highest)
  centred = Sub (clipped, zero_point)
  y = Mul (centred, scale)
}
"""


def channel_codes_node(x: Tensor, *constants: Tensor) -> Tensor:
    """The node, for ``torch.onnx.export`` to meet; ``constants`` in the order of the function's inputs."""
    return torch.onnx.ops.symbolic(
        f"octavo::{NAME}", (x, *constants), dtype=x.dtype, shape=x.shape, version=1
    )
