"""The integer LayerNorm of :mod:`quant.integer.layer_norm` as an ONNX function."""

import torch
from torch import Tensor

__all__ = ["BODY", "NAME", "integer_layer_norm_node"]

NAME = "IntegerLayerNorm"

_WIDEN = """
  wider_{bit} = Mul (gain_{before}, power_{bit})
  fits_{bit} = Less (wider_{bit}, ceiling)
  gain_{bit} = Where (fits_{bit}, wider_{bit}, gain_{before})
  shifted_{bit} = Mul (divisor_{before}, power_{bit})
  divisor_{bit} = Where (fits_{bit}, shifted_{bit}, divisor_{before})
"""

BODY = (
    """
IntegerLayerNorm (x, scale, factor, gain, slope, offset, extra, ceiling, output_scale) => (y)
{
  last = Constant <value_ints = [-1]> ()
  one = Constant <value = int64 {1}> ()
  two = Constant <value = int64 {2}> ()
  unit = Constant <value = double {1.0}> ()
  power_16 = Constant <value = double {65536.0}> ()
  power_8 = Constant <value = double {256.0}> ()
  power_4 = Constant <value = double {16.0}> ()
  power_2 = Constant <value = double {4.0}> ()
  power_1 = Constant <value = double {2.0}> ()

  steps = Div (x, scale)
  rounded = Round (steps)
  whole = Cast <to = 7> (rounded)
  codes = Mul (whole, factor)

  total = ReduceSum <keepdims = 1> (codes, last)
  squares = Mul (codes, codes)
  energy = ReduceSum <keepdims = 1> (squares, last)
  channels = Size (factor)
  scaled_energy = Mul (channels, energy)
  squared_total = Mul (total, total)
  spread = Sub (scaled_energy, squared_total)
  positive = Add (spread, extra)
  real = Cast <to = 11> (positive)
  root = Sqrt (real)

  row_gain = Div (gain, root)
  gain_0 = Abs (row_gain)
  divisor_0 = Identity (unit)
"""
    + "".join(
        _WIDEN.format(bit=bit, before=before) for before, bit in ((0, 16), (16, 8), (8, 4), (4, 2), (2, 1))
    )
    + """
  floor = Floor (gain_1)
  largest = Sub (ceiling, unit)
  clipped = Min (floor, largest)
  multiplier = Cast <to = 7> (clipped)
  real_sign = Sign (row_gain)
  sign = Cast <to = 7> (real_sign)

  real_total = Cast <to = 11> (total)
  mean = Div (real_total, root)
  centre = Mul (mean, slope)
  bracket = Sub (offset, centre)
  real_offset = Mul (bracket, divisor_1)
  rounded_offset = Round (real_offset)
  row_offset = Cast <to = 7> (rounded_offset)

  divisor = Cast <to = 7> (divisor_1)
  signed_multiplier = Mul (sign, multiplier)
  product = Mul (signed_multiplier, codes)
  value = Add (product, row_offset)
  half = Div (divisor, two)
  raised = Add (value, half)
  remainder = Mod (raised, divisor)
  multiple = Sub (raised, remainder)
  result = Div (multiple, divisor)
  real_result = Cast <to = 1> (result)
  y = Mul (real_result, output_scale)
}
"""
)
"""In ONNX's text form; types 1, 7 and 11 are float, int64 and double. The names are those of the formulas."""


def integer_layer_norm_node(x: Tensor, *constants: Tensor) -> Tensor:
    """The node, for ``torch.onnx.export`` to meet; ``constants`` in the order of the function's inputs."""
    return torch.onnx.ops.symbolic(
        f"octavo::{NAME}", (x, *constants), dtype=x.dtype, shape=x.shape, version=1
    )
