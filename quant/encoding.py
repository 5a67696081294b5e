"""The number formats of a target, and freezing a calibrated graph in them.

One calibration serves every target: the observers keep ranges, and each target writes the same ranges in the
codes that its integer kernels take.
"""

from dataclasses import dataclass, replace
from enum import Enum

import torch

from quant.calibrated import CalibratedGraph
from quant.graph.nodes import constant_name, tensor_of
from quant.placement import Site
from quant.qparams import QParams
from quant.saturation import Pairing, pair_safe_scale
from quant.spec import QuantSpec

__all__ = ["ActivationCodes", "Encoding", "WeightGuard", "freeze", "set_quantizing"]


class ActivationCodes(Enum):
    """How activations are written, whatever the recipe's own choice was."""

    UNSIGNED = "unsigned"
    """As the recipe says, in unsigned codes; symmetric ranges get the middle code as zero point."""
    SIGNED = "signed"
    """The same values in signed codes: each code and zero point is lower by 2^(bits−1)."""
    SIGNED_SYMMETRIC = "signed_symmetric"
    """Signed codes around zero point 0."""


class WeightGuard(Enum):
    """What keeps u8 × s8 products from overflowing 16 bits (see :mod:`quant.saturation`)."""

    NONE = "none"
    """All codes of the recipe: right for VNNI, ARM and GPUs."""
    PAIRS = "pairs"
    """Only the rows whose own products could overflow get a larger scale."""
    SEVEN_BITS = "seven_bits"
    """One bit less for every weight."""


@dataclass(frozen=True)
class Encoding:
    """A target's number formats.

    Attributes:
        activations: codes of activations.
        guard: protection of integer sums.
        dropped_roles: roles whose fake-quant layers the target does not want.
        dropped_sites: names of further fake-quant layers that it does not want.
        half_scales: round every scale to float16, in which the target stores it.
    """

    activations: ActivationCodes = ActivationCodes.UNSIGNED
    guard: WeightGuard = WeightGuard.NONE
    dropped_roles: frozenset[str] = frozenset()
    dropped_sites: frozenset[str] = frozenset()
    half_scales: bool = False


def freeze(calibrated: CalibratedGraph, encoding: Encoding) -> dict[str, QParams]:
    """Fix every scale and zero point for a target, and switch the graph to quantizing.

    Dropped sites, and those of dropped roles, are switched off.

    Args:
        calibrated: changed in place; freezing again for another target is allowed.
        encoding: the target's formats.

    Returns:
        The parameters of every active site by name.
    """
    frozen: dict[str, QParams] = {}
    for site in calibrated.activation_sites():
        if encoding.dropped_roles.issuperset(site.roles) or site.name in encoding.dropped_sites:
            site.quantizer.off()
            continue
        qparams = site.quantizer.freeze(activation_spec(site.spec, encoding.activations))
        frozen[site.name] = _store(site, qparams, encoding)
    for site in calibrated.weight_sites():
        frozen[site.name] = _store(site, _freeze_weight(calibrated, site, encoding, frozen), encoding)
    return frozen


def set_quantizing(calibrated: CalibratedGraph, active: dict[str, QParams] | None) -> None:
    """Quantize at the sites named in ``active``, or nowhere for None."""
    for site in calibrated.sites:
        if active is not None and site.name in active:
            site.quantizer.quantize()
        else:
            site.quantizer.off()


def activation_spec(spec: QuantSpec, codes: ActivationCodes) -> QuantSpec:
    """The recipe's activation format rewritten for a target; log2 and FP8 formats stay as they are."""
    if spec.scheme != "uniform":
        return spec
    if codes is ActivationCodes.UNSIGNED:
        change: dict[str, bool] = {"signed": False}
    elif codes is ActivationCodes.SIGNED:
        change = {"signed": True}
    else:
        change = {"signed": True, "symmetric": True}
    return spec.model_copy(update=change)


def _freeze_weight(
    calibrated: CalibratedGraph, site: Site, encoding: Encoding, frozen: dict[str, QParams]
) -> QParams:
    spec = site.spec
    inputs = [source for source in _inputs_of(calibrated, site) if source.name in frozen]
    multiplied = bool(inputs) and spec.scheme == "uniform" and spec.granularity != "per_group"  # as integers
    if encoding.guard is WeightGuard.SEVEN_BITS and spec.bits == 8 and multiplied:
        spec = spec.model_copy(update={"bits": 7})
    qparams = site.quantizer.freeze(spec)
    guarded = encoding.guard is WeightGuard.PAIRS and spec.bits == 8 and multiplied
    if not (guarded and spec.symmetric and spec.signed):
        return qparams
    weight = tensor_of(calibrated.graph, str(constant_name(site.node.args[0])))
    pairing = Pairing.CONV if site.role == "conv.weight" else Pairing.MATMUL
    for source in inputs:
        if source.quantizer.channels is not None:
            low, high = source.quantizer.channels.range()
            if pairing is Pairing.CONV and weight.shape[1] == 1 and len(weight) == len(low):
                continue  # the depthwise kernel is exact
            scale = pair_safe_scale(weight, qparams, low, high, frozen[source.name], pairing)
            qparams = replace(qparams, scale=scale)
    return qparams


def _store(site: Site, qparams: QParams, encoding: Encoding) -> QParams:
    if encoding.half_scales:
        smallest = float(torch.finfo(torch.float16).smallest_normal) * 2.0**-10  # the smallest subnormal
        scale = qparams.scale.clamp(min=smallest).half().float()
        qparams = replace(qparams, scale=scale)
    site.quantizer.set_qparams(qparams)
    site.quantizer.quantize()
    return qparams


def _inputs_of(calibrated: CalibratedGraph, weight: Site) -> list[Site]:
    """The activation sites that feed the layers of a weight site: one, unless they share the weight."""
    inputs = {layer.args[0] for layer in weight.node.users}
    return [site for site in calibrated.activation_sites() if site.node in inputs]
