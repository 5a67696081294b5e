"""Which formats Q/DQ operators can express, and which of them a target takes; the rest is refused by name."""

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from export.functions.place import has_channel_codes, has_log2_codes, is_function
from export.storage import activation_storage, weight_only_sites, weight_storage
from export.targets import Target
from quant.calibrated import CalibratedGraph
from quant.errors import Unsupported
from quant.integer.modules import IntegerLayer
from quant.placement import Site
from quant.qparams import QParams

__all__ = ["check_formats", "check_target"]


def check_formats(calibrated: CalibratedGraph, frozen: Mapping[str, QParams]) -> None:
    """Check that every format has a form in Q/DQ operators.

    Raises:
        Unsupported: one has not; the message names the site.
    """
    alone = weight_only_sites(calibrated, frozen)
    for site in calibrated.sites:
        if site.name not in frozen:
            continue
        qparams = frozen[site.name]
        if qparams.scheme == "log2" and not has_log2_codes(site, qparams):
            raise Unsupported(
                f"'{site.name}' uses scheme 'log2', which is exported only for attention weights "
                "(role softmax.output) with one scale per tensor"
            )
        reason = (
            _weight_reason(site, qparams, site.name in alone)
            if site.is_weight
            else _activation_reason(site, qparams)
        )
        if reason is not None:
            raise Unsupported(f"'{site.name}': {reason}")


def _activation_reason(site: Site, qparams: QParams) -> str | None:
    zero_point = qparams.zero_point.flatten()
    if has_channel_codes(site, qparams) and bool((zero_point == zero_point[0]).all()):
        return None
    if qparams.axis is not None or qparams.group_size is not None:
        return "activations need one scale per tensor to be exported"
    return None


def _weight_reason(site: Site, qparams: QParams, weight_only: bool) -> str | None:
    grouped = qparams.group_size is not None
    if qparams.scheme == "uniform" and qparams.qmax - qparams.qmin > 255:
        return f"codes up to {qparams.qmax} need more than 8 bits, which is simulation only"
    if qparams.axis not in (None, 0):
        return (
            "weights need one scale per output channel (axis 0), per tensor or per group to be exported, not "
            f"along axis {qparams.axis}"
        )
    if grouped and site.role != "linear.weight":
        return "groups are exported for linear layers only; give convolutions one scale per channel"
    asymmetric = bool(qparams.zero_point.any()) or qparams.qmin >= 0
    if asymmetric and not (weight_only or grouped):
        return (
            "weights need signed, symmetric codes to be exported where the activations are quantized per "
            "tensor too; asymmetric ones are exported weight-only"
        )
    return None


def check_target(calibrated: CalibratedGraph, frozen: Mapping[str, QParams], target: Target) -> None:
    """Check that a target takes every format.

    TensorRT takes 4-bit weights only for weight-only matrix products, symmetric, in blocks of 64 or 128 along
    the products' inner axis (its documentation, "Quantization schemes"), and FP8 only on both factors.
    TensorRT 8 has neither: its newest operator set, 17, has only bytes, with a scale per tensor or channel.

    Raises:
        Unsupported: it does not; the message names the site and the reason.
    """
    simulated = next(_simulated(calibrated, frozen), None)
    if (target.half_remainder or target.opset is not None) and simulated is not None:
        raise Unsupported(
            f"target {target.name} cannot take '{simulated}': integer LayerNorm, softmax on integers "
            "or powers of two, and activations with a scale per channel are simulated, in int64 and float64, "
            "which it does not compute; lower to ort-x86 or ort-arm64"
        )
    if target.opset is not None:
        _check_opset(calibrated, frozen, target, target.opset)
    if not target.weight_blocks:
        return
    alone = weight_only_sites(calibrated, frozen)
    for site in calibrated.weight_sites():
        qparams = frozen[site.name]
        reason = _block_reason(site, qparams, site.name in alone, target)
        sources = [s for s in calibrated.activation_sites() if s.node in _inputs(site) and s.name in frozen]
        if any((frozen[s.name].scheme == "fp8_e4m3") != (qparams.scheme == "fp8_e4m3") for s in sources):
            reason = "FP8 needs both factors of a product in FP8, activation and weight"
        if reason is not None:
            raise Unsupported(f"target {target.name} cannot take '{site.name}': {reason}")


def _check_opset(
    calibrated: CalibratedGraph, frozen: Mapping[str, QParams], target: Target, opset: int
) -> None:
    """Refuse what the target's operator set cannot write, and weights around another code than 0."""
    alone = weight_only_sites(calibrated, frozen)
    for site in calibrated.sites:
        if site.name not in frozen:
            continue
        qparams = frozen[site.name]
        storage = (
            weight_storage(qparams, site.name in alone) if site.is_weight else activation_storage(qparams)
        )
        reason = _off_centre(qparams) if site.is_weight else None
        if storage.opset > opset:
            kind = {ir.DataType.FLOAT8E4M3FN: "FP8", ir.DataType.INT4: "4-bit codes"}
            what = kind.get(storage.dtype, "a scale per group")
            reason = (
                f"{what} came with opset {storage.opset}, it reads up to {opset}; use 8 bits with a scale "
                "per channel or tensor, or target tensorrt, which takes it"
            )
        if reason is not None:
            raise Unsupported(f"target {target.name} cannot take '{site.name}': {reason}")


def _off_centre(qparams: QParams) -> str | None:
    if bool(qparams.zero_point.any()) or qparams.qmin >= 0:
        return "its zero point is not 0; use signed: true and symmetric: true"
    return None


def _simulated(calibrated: CalibratedGraph, frozen: Mapping[str, QParams]) -> Iterator[str]:
    """Names of what is exported as ONNX functions."""
    for module in calibrated.graph.modules():
        if isinstance(module, IntegerLayer):
            yield module.name
    for site in calibrated.activation_sites():
        if site.name in frozen and is_function(site, frozen[site.name]):
            yield site.name


def _block_reason(site: Site, qparams: QParams, weight_only: bool, target: Target) -> str | None:
    storage = weight_storage(qparams, weight_only)
    if (reason := _off_centre(qparams)) is not None:
        return reason
    if storage.opset <= 20:
        return None
    sizes = " or ".join(str(size) for size in target.weight_blocks)
    if site.role != "linear.weight":
        return "4-bit weights are taken by matrix products only; leave convolutions float or at 8 bits"
    if storage.dtype is not ir.DataType.INT4:
        return f"groups are taken for 4-bit weights only, this one has codes up to {qparams.qmax}"
    if not weight_only:
        return "4-bit weights in groups are weight-only; leave the layer's input float, or use per_channel"
    if storage.block_size not in target.weight_blocks:
        had = "one scale per channel" if storage.block_size is None else f"group_size {storage.block_size}"
        return f"4-bit weights need group_size {sizes}, this one has {had}"
    return None


def _inputs(weight: Site) -> set[object]:
    return {layer.args[0] for layer in weight.node.users}
