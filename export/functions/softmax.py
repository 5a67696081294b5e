"""Log-Int-Softmax and the product behind it (:mod:`quant.integer.softmax`) as ONNX functions."""

import torch
from torch import Tensor

__all__ = [
    "MATMUL_BODY",
    "MATMUL_NAME",
    "SOFTMAX_BODY",
    "SOFTMAX_NAME",
    "log_int_softmax_node",
    "shift_matmul_node",
]

SOFTMAX_NAME, MATMUL_NAME = "LogIntSoftmax", "ShiftMatMul"

_HALVE = """
  bit_{bit} = Constant <value = int64 {{{bit}}}> ()
  bound_{bit} = Constant <value = int64 {{{bound}}}> ()
  large_{bit} = GreaterOrEqual (rest_{before}, bound_{bit})
  longer_{bit} = Add (log_{before}, bit_{bit})
  log_{bit} = Where (large_{bit}, longer_{bit}, log_{before})
  halved_{bit} = Div (rest_{before}, bound_{bit})
  rest_{bit} = Where (large_{bit}, halved_{bit}, rest_{before})
"""

SOFTMAX_BODY = (
    """
LogIntSoftmax (x, scale, ln2, linear, constant, shift, table) => (y)
{
  last = Constant <value_ints = [-1]> ()
  zero = Constant <value = int64 {0}> ()
  one = Constant <value = int64 {1}> ()
  two = Constant <value = int64 {2}> ()
  bit = Constant <value = uint64 {1}> ()

  steps = Div (x, scale)
  rounded = Round (steps)
  codes = Cast <to = 7> (rounded)
  top = ReduceMax <keepdims = 1> (codes, last)
  below = Sub (codes, top)
  lowest = Mul (shift, ln2)
  near = Greater (below, lowest)
  kept = Where (near, below, lowest)
  quotient = Div (kept, ln2)
  whole = Mul (ln2, quotient)
  rest = Sub (kept, whole)

  sum = Add (rest, linear)
  product = Mul (sum, rest)
  parabola = Add (product, constant)
  above_zero = Greater (parabola, zero)
  polynomial = Where (above_zero, parabola, zero)
  places = Sub (shift, quotient)
  unsigned_polynomial = Cast <to = 13> (polynomial)
  unsigned_places = Cast <to = 13> (places)
  shifted = BitShift <direction = "LEFT"> (unsigned_polynomial, unsigned_places)
  exponential = Cast <to = 7> (shifted)

  total = ReduceSum <keepdims = 1> (exponential, last)
  positive = Greater (exponential, zero)
  divisor = Where (positive, exponential, one)
  half = Div (divisor, two)
  raised = Add (total, half)
  rest_0 = Div (raised, divisor)
  log_0 = Identity (zero)
"""
    + "".join(
        _HALVE.format(bit=bit, bound=1 << bit, before=before)
        for before, bit in ((0, 32), (32, 16), (16, 8), (8, 4), (4, 2), (2, 1))
    )
    + """
  unsigned_log = Cast <to = 13> (log_1)
  unsigned_power = BitShift <direction = "LEFT"> (bit, unsigned_log)
  power = Cast <to = 7> (unsigned_power)
  above = Sub (rest_0, power)
  doubled = Mul (two, above)
  upper = GreaterOrEqual (doubled, power)
  one_more = Cast <to = 7> (upper)
  log = Add (log_1, one_more)
  entries = Size (table)
  dropped = Sub (entries, one)
  code = Where (positive, log, dropped)
  within = Less (code, dropped)
  index = Where (within, code, dropped)
  y = Gather (table, index)
}
"""
)
"""In ONNX's text form; types 7 and 13 are int64 and uint64.

``table`` holds 2^−k and ends with a 0. A quotient of two values ≤ 0 is cut off, its floor. Where stands
for Max and Min: on x86 those of ONNX Runtime 1.31 see only 32 bits of an int64, and Max(2^31, 1) is 1.
"""

MATMUL_BODY = """
ShiftMatMul (powers, values, scale) => (y)
{
  steps = Div (values, scale)
  codes = Round (steps)
  real_codes = Cast <to = 11> (codes)
  real_powers = Cast <to = 11> (powers)
  sums = MatMul (real_powers, real_codes)
  real_scale = Cast <to = 11> (scale)
  result = Mul (sums, real_scale)
  y = Cast <to = 1> (result)
}
"""
"""The doubles are multiples of a power of two and their sums are exact; only the last two lines round."""


def log_int_softmax_node(x: Tensor, *constants: Tensor) -> Tensor:
    """The node, for ``torch.onnx.export`` to meet; ``constants`` in the order of the function's inputs."""
    name = f"octavo::{SOFTMAX_NAME}"
    return torch.onnx.ops.symbolic(name, (x, *constants), dtype=x.dtype, shape=x.shape, version=1)


def shift_matmul_node(powers: Tensor, values: Tensor, scale: Tensor) -> Tensor:
    """The node, for ``torch.onnx.export`` to meet."""
    shape = (*powers.shape[:-1], values.shape[-1])
    name = f"octavo::{MATMUL_NAME}"
    return torch.onnx.ops.symbolic(name, (powers, values, scale), dtype=powers.dtype, shape=shape, version=1)
