"""Fake-quantization to powers of two as an ONNX function.

    k = clamp(round(−log2(x / s)), 0, 2^bits − 1)        y = s 2^−k, from a table

The logarithm is the runtime's: between two powers, where float32 decides, it may choose the other neighbour
than PyTorch does.
"""

import torch
from torch import Tensor

__all__ = ["BODY", "NAME", "log2_codes_node"]

NAME = "Log2QuantizeDequantize"

BODY = """
Log2QuantizeDequantize (x, scale, table) => (y)
{
  zero = Constant <value = float {0.0}> ()
  one = Constant <value = int64 {1}> ()
  two = Constant <value = float {2.0}> ()
  ratio = Div (x, scale)
  positive = Max (ratio, zero)
  natural = Log (positive)
  natural_two = Log (two)
  log = Div (natural, natural_two)
  exponent = Neg (log)
  rounded = Round (exponent)
  entries = Size (table)
  last = Sub (entries, one)
  real_last = Cast <to = 1> (last)
  raised = Max (rounded, zero)
  clipped = Min (raised, real_last)
  codes = Cast <to = 7> (clipped)
  y = Gather (table, codes)
}
"""
"""In ONNX's text form; types 1 and 7 are float and int64. The logarithm of 0 is −∞: the last code."""


def log2_codes_node(x: Tensor, *constants: Tensor) -> Tensor:
    """The node, for ``torch.onnx.export`` to meet; ``constants`` in the order of the function's inputs."""
    return torch.onnx.ops.symbolic(
        f"octavo::{NAME}", (x, *constants), dtype=x.dtype, shape=x.shape, version=1
    )
