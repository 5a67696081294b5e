"""The two operators that stand for fake-quantization in an exported graph, and their ONNX form."""

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset20 as op
from torch import Tensor

__all__ = ["translations"]


@torch.library.custom_op("octavo::quantize_dequantize", mutates_args=())
def quantize_dequantize(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """``x`` rounded to unsigned 8-bit codes and back.

    Args:
        x: any shape, float32.
        scale: [], float32.
        zero_point: [], uint8.
    """
    return torch.fake_quantize_per_tensor_affine(x, scale, zero_point.to(torch.int32), 0, 255)


@quantize_dequantize.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    del scale, zero_point
    return torch.empty_like(x)


@torch.library.custom_op("octavo::dequantize", mutates_args=())
def dequantize(codes: Tensor, scale: Tensor, axis: int) -> Tensor:
    """``codes · scale``, codes of zero point 0.

    Args:
        codes: int8.
        scale: [] or [codes.shape[axis]], float32.
        axis: the channel axis.
    """
    shape = [1] * codes.ndim
    if scale.ndim:
        shape[axis] = -1
    return codes.float() * scale.reshape(shape if scale.ndim else [])


@dequantize.register_fake
def _(codes: Tensor, scale: Tensor, axis: int) -> Tensor:
    del scale, axis
    return torch.empty_like(codes, dtype=torch.float32)


def _quantize_dequantize_onnx(x: Any, scale: Any, zero_point: Any) -> Any:
    return op.DequantizeLinear(op.QuantizeLinear(x, scale, zero_point), scale, zero_point)


def _dequantize_onnx(codes: Any, scale: Any, axis: int) -> Any:
    return op.DequantizeLinear(codes, scale, axis=axis)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For ``torch.onnx.export(custom_translation_table=...)``."""
    return {
        torch.ops.octavo.quantize_dequantize.default: _quantize_dequantize_onnx,
        torch.ops.octavo.dequantize.default: _dequantize_onnx,
    }
