"""How the codes of a format are stored in an ONNX file: their type, their blocks, and the opset they need.

Codes of 5 to 8 bits are bytes. Weights of up to 4 bits are stored as int4 or uint4, two in a byte, where the
product is not computed on integers anyway: their layer reads float activations (weight-only), or their scales
come in groups. Where integers are multiplied, 4-bit codes stay in bytes, because the integer kernels take
nothing smaller.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import Tensor

from quant.calibrated import CalibratedGraph
from quant.qparams import QParams

__all__ = ["Storage", "activation_storage", "needed_opset", "stored", "weight_only_sites", "weight_storage"]

BLOCK_OPSET = 21
"""Since when DequantizeLinear knows int4, uint4 and ``block_size``."""

FP8 = ir.DataType.FLOAT8E4M3FN


@dataclass(frozen=True)
class Storage:
    """Type and layout of stored codes.

    Attributes:
        dtype: the codes' type.
        block_size: so many neighbours along the last axis share a scale; None for one per channel or tensor.
    """

    dtype: ir.DataType
    block_size: int | None = None

    @property
    def opset(self) -> int:
        """The oldest opset that has it."""
        blocks = self.block_size is not None or self.dtype in (ir.DataType.INT4, ir.DataType.UINT4)
        return BLOCK_OPSET if blocks else 19 if self.dtype is FP8 else 13


def activation_storage(qparams: QParams) -> Storage:
    """Bytes, or FP8."""
    if qparams.scheme == "fp8_e4m3":
        return Storage(FP8)
    return Storage(ir.DataType.UINT8 if qparams.qmin >= 0 else ir.DataType.INT8)


def weight_storage(qparams: QParams, weight_only: bool) -> Storage:
    """See the module's text.

    Args:
        qparams: the weight's format.
        weight_only: whether its layer reads float activations.
    """
    plain = activation_storage(qparams)
    nibbles = qparams.qmax - qparams.qmin < 16 and (weight_only or qparams.group_size is not None)
    if nibbles:
        plain = Storage(ir.DataType.UINT4 if qparams.qmin >= 0 else ir.DataType.INT4)
    return Storage(plain.dtype, qparams.group_size)


def stored(codes: Tensor, dtype: ir.DataType) -> NDArray[np.generic]:
    """Codes of :func:`quant.kernels.quantize_codes` as an array of ``dtype``; those of FP8 are its bits."""
    array = codes.numpy()
    if dtype is FP8:
        return np.asarray(array.astype(np.uint8).view(ml_dtypes.float8_e4m3fn))
    return np.asarray(array.astype(dtype.numpy()))


def weight_only_sites(calibrated: CalibratedGraph, frozen: Mapping[str, QParams]) -> frozenset[str]:
    """The weight sites of which no reader also reads a quantized activation."""
    quantized = {site.node for site in calibrated.activation_sites() if site.name in frozen}
    return frozenset(
        site.name
        for site in calibrated.weight_sites()
        if site.name in frozen and not any(layer.args[0] in quantized for layer in site.node.users)
    )


def needed_opset(calibrated: CalibratedGraph, frozen: Mapping[str, QParams]) -> int:
    """The oldest opset that has all formats."""
    weights = {site.name for site in calibrated.weight_sites()}
    alone = weight_only_sites(calibrated, frozen)
    return max(
        (weight_storage(q, name in alone) if name in weights else activation_storage(q)).opset
        for name, q in frozen.items()
    )
