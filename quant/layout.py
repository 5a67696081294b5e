"""From a tensor to rows, one row for each scale, and back."""

import torch
from torch import Tensor

from quant.errors import BadInput
from quant.spec import QuantSpec

__all__ = ["aminmax", "channel_axis", "row_shape", "rows"]


def channel_axis(x: Tensor, axis: int, name: str = "tensor") -> int:
    """``axis`` counted from the front of ``x``.

    Raises:
        BadInput: ``x`` has no such axis.
    """
    if not -x.ndim <= axis < x.ndim:
        raise BadInput(f"'{name}' of shape {list(x.shape)} has no axis {axis}")
    return axis % x.ndim


def row_shape(x: Tensor, spec: QuantSpec, name: str = "tensor") -> torch.Size:
    """The shape of the scales of ``x``, as :class:`quant.spec.QuantSpec` defines it.

    Raises:
        BadInput: the axis is missing, or ``group_size`` does not divide the last axis.
    """
    if spec.granularity == "per_tensor":
        return torch.Size(())
    if spec.granularity == "per_channel":
        return torch.Size((x.shape[channel_axis(x, spec.axis, name)],))
    assert spec.group_size is not None
    if x.ndim == 0 or x.shape[-1] % spec.group_size:
        raise BadInput(
            f"'{name}' of shape {list(x.shape)}: group_size {spec.group_size} must divide the last axis"
        )
    return torch.Size((*x.shape[:-1], x.shape[-1] // spec.group_size))


def rows(x: Tensor, spec: QuantSpec, name: str = "tensor") -> Tensor:
    """The values of ``x`` as ``[R, n]``; row ``r`` shares the ``r``-th scale of the flattened row shape."""
    shape = row_shape(x, spec, name)
    if spec.granularity == "per_channel":
        x = x.movedim(spec.axis, 0)
    return x.reshape(shape.numel(), -1)


def aminmax(x: Tensor, spec: QuantSpec, name: str = "tensor") -> tuple[Tensor, Tensor]:
    """The smallest and the largest value for each scale, both of shape :func:`row_shape`; NaN spreads."""
    if spec.granularity == "per_tensor":
        low, high = torch.aminmax(x)
        return low, high
    shape = row_shape(x, spec, name)
    if spec.granularity == "per_channel" and spec.axis % x.ndim == x.ndim - 1:
        flat = x.reshape(-1, x.shape[-1])
        low, high = flat.amin(dim=0), flat.amax(dim=0)  # ten times faster than aminmax over a leading axis
    else:
        low, high = torch.aminmax(rows(x, spec, name), dim=1)
    return low.reshape(shape), high.reshape(shape)
