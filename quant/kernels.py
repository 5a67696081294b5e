"""Quantize, dequantize, and both in one step with a gradient."""

from typing import Any

import torch
from torch import Tensor

from quant.errors import BadInput
from quant.layout import channel_axis
from quant.qparams import WIDE, QParams

__all__ = ["dequantize", "fake_quantize", "quantize_codes"]


def fake_quantize(x: Tensor, qparams: QParams, name: str = "tensor") -> Tensor:
    """The values of ``x`` after quantizing and dequantizing, with the straight-through gradient.

    ``uniform`` is exactly ``torch.fake_quantize_per_tensor_affine`` or ``..._per_channel_affine`` (groups
    are channels of the reshaped tensor); for the other schemes see :func:`quantize_codes`. The result equals
    ``dequantize(quantize_codes(x, qparams), qparams)``. The gradient is 1 where the code is not clipped and 0
    elsewhere.

    Args:
        x: float32, of the layout ``qparams`` was made for.
        qparams: scale and zero point.
        name: the tensor's name, for messages.

    Returns:
        The shape and type of ``x``.

    Raises:
        BadInput: the shape of ``x`` does not fit the scales.
    """
    _check_layout(x, qparams, name)
    scale, zero_point, qmin, qmax = qparams.scale, qparams.zero_point, qparams.qmin, qparams.qmax
    if qparams.scheme != "uniform":
        result: Tensor = _StraightThrough.apply(x, qparams)
        return result
    if scale.ndim == 0:
        if x.requires_grad and torch.is_grad_enabled():
            return torch.fake_quantize_per_tensor_affine(x, scale, zero_point, qmin, qmax)
        # The same arithmetic without the mask for the gradient, in place: several times faster.
        y = x * (1.0 / scale)
        return y.round_().clamp_(qmin - int(zero_point), qmax - int(zero_point)).mul_(scale)
    # Unlike the per-tensor operator, the per-channel one overflows int64 where |x / scale| reaches 2^63.
    limit = _aligned(scale, x, qparams) * 2.0**40
    if qparams.group_size is None:
        axis = channel_axis(x, qparams.axis or 0, name)
        x = torch.clamp(x, -limit, limit)
        narrow = torch.fake_quantize_per_channel_affine(x, scale, zero_point, axis, qmin, qmax)
        return _with_wide(narrow, x, qparams, axis) if qparams.wide else narrow
    groups = torch.clamp(_grouped(x, qparams), -limit, limit).reshape(-1, qparams.group_size)
    return torch.fake_quantize_per_channel_affine(
        groups, scale.flatten(), zero_point.flatten(), 0, qmin, qmax
    ).reshape(x.shape)


def quantize_codes(x: Tensor, qparams: QParams, name: str = "tensor") -> Tensor:
    """The integer codes of ``x``.

    - uniform: ``clamp(round_half_even(x * (1 / scale)) + zero_point, qmin, qmax)`` in float32. This is the
      arithmetic of PyTorch's operators, bit for bit. ONNX QuantizeLinear divides by the scale instead,
      which can choose the other neighbour for a value on the border of two codes.
    - log2: ``clamp(round(-log2(x / scale)), 0, qmax)``. Zero (and anything below) takes the last code, so
      it comes back as ``scale * 2^-qmax``, not as zero: every code is a power of two, and the format
      has no code to spare for zero.
    - fp8_e4m3: the bits, 0 to 255, of ``clamp(x / scale, -448, 448)`` rounded to the nearest E4M3 number,
      ties to the even mantissa. This is ONNX QuantizeLinear to FLOAT8E4M3FN with ``saturate=1``.

    >>> q = QParams(torch.tensor(0.5), torch.tensor(10, dtype=torch.int32), qmin=0, qmax=255)
    >>> quantize_codes(torch.tensor([0.0, 0.25, 0.75, 1e9]), q).tolist()
    [10, 10, 12, 255]

    Args:
        x: float32, of the layout ``qparams`` was made for.
        qparams: scale and zero point.
        name: the tensor's name, for messages.

    Returns:
        int32, the shape of ``x``.

    Raises:
        BadInput: the shape of ``x`` does not fit the scales.
    """
    _check_layout(x, qparams, name)
    values = _grouped(x.detach().float(), qparams)
    scale = _aligned(qparams.scale, x, qparams)
    if qparams.scheme == "fp8_e4m3":
        number = (values / scale).clamp(qparams.qmin, qparams.qmax).to(torch.float8_e4m3fn)
        return number.view(torch.uint8).to(torch.int32).reshape(x.shape)
    if qparams.scheme == "log2":
        codes = _log2_exponent(values, scale)
    else:
        codes = torch.round(values * (1.0 / scale)) + _aligned(qparams.zero_point, x, qparams)
    lowest, highest = (_aligned(limit, x, qparams) for limit in qparams.limits())
    return codes.clamp(lowest, highest).to(torch.int32).reshape(x.shape)


def dequantize(codes: Tensor, qparams: QParams, name: str = "tensor") -> Tensor:
    """``scale * (code - zero_point)``; ``scale * 2^-code`` for log2; for fp8_e4m3 scale times the number.

    Args:
        codes: integers, of the layout ``qparams`` was made for.
        qparams: scale and zero point.
        name: the tensor's name, for messages.

    Returns:
        float32, the shape of ``codes``.

    Raises:
        BadInput: the shape of ``codes`` does not fit the scales.
    """
    _check_layout(codes, qparams, name)
    values, scale = _grouped(codes, qparams), _aligned(qparams.scale, codes, qparams)
    if qparams.scheme == "log2":
        return (scale * torch.exp2(-values.float())).reshape(codes.shape)
    if qparams.scheme == "fp8_e4m3":
        numbers = values.to(torch.uint8).view(torch.float8_e4m3fn)
        return (scale * numbers.float()).reshape(codes.shape)
    centred = values.to(torch.int32) - _aligned(qparams.zero_point, codes, qparams)
    return (centred.float() * scale).reshape(codes.shape)


class _StraightThrough(torch.autograd.Function):
    """Quantizers that are not uniform, with the straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, qparams: QParams) -> Tensor:
        values, scale = _grouped(x, qparams), _aligned(qparams.scale, x, qparams)
        position = _log2_exponent(values, scale) if qparams.scheme == "log2" else values / scale
        ctx.save_for_backward(((position >= qparams.qmin) & (position <= qparams.qmax)).reshape(x.shape))
        return dequantize(quantize_codes(x, qparams), qparams)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None


def _with_wide(narrow: Tensor, x: Tensor, qparams: QParams, axis: int) -> Tensor:
    """``narrow`` with the channels of 16-bit codes quantized anew from ``x``."""
    index = torch.tensor(qparams.wide, device=x.device)
    scale, zero_point = qparams.scale[index], torch.zeros_like(qparams.zero_point[index])
    values = torch.fake_quantize_per_channel_affine(
        x.index_select(axis, index), scale, zero_point, axis, -WIDE, WIDE - 1
    )
    return narrow.index_copy(axis, index, values)


def _log2_exponent(values: Tensor, scale: Tensor) -> Tensor:
    return torch.round(-torch.log2(values.clamp(min=0.0) / scale))


def _grouped(x: Tensor, qparams: QParams) -> Tensor:
    """``x`` itself, or ``[..., K / group_size, group_size]`` where there are groups."""
    if qparams.group_size is None:
        return x
    return x.reshape(*x.shape[:-1], -1, qparams.group_size)


def _aligned(parameter: Tensor, x: Tensor, qparams: QParams) -> Tensor:
    """A scale or zero point in the shape that broadcasts against :func:`_grouped` ``x``."""
    if qparams.group_size is not None:
        return parameter.unsqueeze(-1)
    if qparams.axis is None:
        return parameter
    shape = [1] * x.ndim
    shape[qparams.axis] = -1
    return parameter.reshape(shape)


def _check_layout(x: Tensor, qparams: QParams, name: str) -> None:
    if qparams.group_size is not None:
        divides = x.ndim > 0 and x.shape[-1] % qparams.group_size == 0
        expected = (*x.shape[:-1], x.shape[-1] // qparams.group_size) if divides else None
    elif qparams.axis is not None:
        expected = (x.shape[channel_axis(x, qparams.axis, name)],)
    else:
        expected = ()
    if qparams.scale.shape != expected:
        raise BadInput(
            f"'{name}' of shape {list(x.shape)} does not fit scales of shape {list(qparams.scale.shape)} "
            f"(channel axis {qparams.axis}, group size {qparams.group_size})"
        )
