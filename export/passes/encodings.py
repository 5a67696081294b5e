"""Write a target's scales, zero points and weight codes into a canonical QDQ graph.

Sites are found by the names of their scale initializers, ``<site>.scale``. Formats of fewer than 8 bits live
in 8-bit containers (weights that are not multiplied as integers excepted, see :mod:`export.storage`): weight
codes simply stay small, and activations get a Clip in front of QuantizeLinear::

    x' = clip(x, (qmin − z) s, (qmax − z) s)

so that integer kernels run them as they are.
"""

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir
from torch import Tensor

from export.functions.place import is_function
from export.passes.base import PassNote
from export.passes.values import is_initializer, put_initializer, replace_value, tidy
from export.storage import activation_storage, stored, weight_only_sites, weight_storage
from quant.calibrated import CalibratedGraph
from quant.errors import InternalError
from quant.graph.nodes import constant_name, tensor_of
from quant.kernels import quantize_codes
from quant.placement import Site
from quant.qparams import QParams

__all__ = ["SetEncodings", "set_encodings"]


class SetEncodings:
    """The pass, see the module's text.

    Sites that are not in ``activations`` lose their Q/DQ pair.
    """

    name = "set_encodings"

    def __init__(
        self,
        activations: Mapping[str, QParams],
        weights: Mapping[str, tuple[Tensor, QParams]],
        weight_only: Collection[str] = (),
    ) -> None:
        """Take the target's parameters.

        Args:
            activations: parameters per tensor, by site.
            weights: float weight and parameters, by site.
            weight_only: the weights whose layers read float activations.
        """
        self._activations = dict(activations)
        self._weights = dict(weights)
        self._weight_only = frozenset(weight_only)

    def requires(self, model: ir.Model) -> None:
        """Every site to be written is in the graph."""
        found = {site for _, site in _quantization_nodes(model)}
        missing = sorted((set(self._activations) | set(self._weights)) - found)
        if missing:
            raise InternalError(f"sites without a Q/DQ node: {', '.join(missing[:5])}")

    def run(self, model: ir.Model) -> list[PassNote]:
        """Write the initializers, insert Clips, drop unwanted pairs."""
        notes = []
        for node, site in list(_quantization_nodes(model)):
            if site in self._weights:
                self._write_weight(model, node, site)
            elif site in self._activations:
                self._write(model, node, site, self._activations[site])
            else:
                _remove_clip(node, site)
                _bypass(node)
                notes.append(PassNote(self.name, site, True, f"{node.op_type} dropped for this target"))
        tidy(model)
        count = len(self._activations) + len(self._weights)
        return [*notes, PassNote(self.name, "", True, f"{count} sites written")]

    def ensures(self, model: ir.Model) -> None:
        """Scales are positive constants, and zero points have the codes' type and lie within the format."""
        for node, site in _quantization_nodes(model):
            scale = node.inputs[1]
            if not is_initializer(scale) or not bool((_value(scale) > 0).all()):
                raise InternalError(f"the scale of '{site}' is not a positive constant")
            if site in self._activations:
                qparams = self._activations[site]
                zero = node.inputs[2]
                assert zero is not None
                if zero.dtype != activation_storage(qparams).dtype:
                    raise InternalError(f"the zero point of '{site}' is {zero.dtype}, not the codes' type")
                if not qparams.qmin <= int(_value(zero)) <= qparams.qmax:
                    raise InternalError(f"the zero point of '{site}' is {_value(zero)}, outside its format")

    def _write_weight(self, model: ir.Model, node: ir.Node, site: str) -> None:
        weight, qparams = self._weights[site]
        storage = weight_storage(qparams, site in self._weight_only)
        codes = stored(quantize_codes(weight, qparams), storage.dtype)
        node.replace_input_with(0, put_initializer(model, f"{site}.codes", codes))
        put_initializer(model, f"{site}.scale", _array(qparams.scale))
        if bool(qparams.zero_point.any()):
            zero = put_initializer(
                model, f"{site}.zero_point", _array(qparams.zero_point).astype(codes.dtype)
            )
            node.resize_inputs(3)
            node.replace_input_with(2, zero)
        if storage.block_size is not None:
            node.attributes["axis"] = ir.AttrInt64("axis", weight.ndim - 1)
            node.attributes["block_size"] = ir.AttrInt64("block_size", storage.block_size)

    def _write(self, model: ir.Model, node: ir.Node, site: str, qparams: QParams) -> None:
        code_type = activation_storage(qparams).dtype
        dtype = code_type.numpy()
        put_initializer(model, f"{site}.scale", _array(qparams.scale))
        zero = put_initializer(model, f"{site}.zero_point", _array(qparams.zero_point).astype(dtype))
        node.replace_input_with(2, zero)
        if node.op_type != "QuantizeLinear":
            return
        for output in node.outputs:
            output.type = ir.TensorType(code_type)
        _remove_clip(node, site)
        if qparams.scheme == "fp8_e4m3":
            return  # QuantizeLinear itself stops at ±448
        limits = np.iinfo(dtype)
        if qparams.qmin > limits.min or qparams.qmax < limits.max:
            _insert_clip(model, node, site, qparams)


def set_encodings(calibrated: CalibratedGraph, frozen: Mapping[str, QParams]) -> SetEncodings:
    """The pass that writes what a calibrated graph was frozen to."""
    weights = {
        site.name: (tensor_of(calibrated.graph, str(constant_name(site.node.args[0]))), frozen[site.name])
        for site in calibrated.weight_sites()
    }
    functions = {
        s.name for s in calibrated.activation_sites() if s.name in frozen and _is_function(s, frozen)
    }
    activations = {name: q for name, q in frozen.items() if name not in weights and name not in functions}
    return SetEncodings(activations, weights, weight_only_sites(calibrated, frozen))


def _is_function(site: Site, frozen: Mapping[str, QParams]) -> bool:
    """Whether a site is a node of an ONNX function, whose constants are the same for all targets."""
    return is_function(site, frozen[site.name])


def _quantization_nodes(model: ir.Model) -> list[tuple[ir.Node, str]]:
    found = []
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale = node.inputs[1]
            assert scale is not None
            found.append((node, (scale.name or "").removesuffix(".scale")))
    return found


def _insert_clip(model: ir.Model, node: ir.Node, site: str, qparams: QParams) -> None:
    """Put the Clip of a narrow format in front of its QuantizeLinear."""
    scale, offset = _array(qparams.scale), int(qparams.zero_point)
    limits = [
        put_initializer(model, f"{site}.{name}", (scale * (code - offset)).astype(np.float32))
        for name, code in (("low", qparams.qmin), ("high", qparams.qmax))
    ]
    value = node.inputs[0]
    assert value is not None
    clip = ir.node("Clip", [value, *limits], name=f"{site}/Clip")
    clip.outputs[0].type, clip.outputs[0].shape = value.type, value.shape
    clip.outputs[0].name = f"{site}.clipped"
    model.graph.insert_before(node, clip)
    node.replace_input_with(0, clip.outputs[0])


def _remove_clip(node: ir.Node, site: str) -> None:
    """Let a QuantizeLinear read what the Clip reads that an earlier format put in front of it."""
    clip = node.inputs[0].producer() if node.inputs[0] is not None else None
    if clip is not None and clip.name == f"{site}/Clip":
        node.replace_input_with(0, clip.inputs[0])


def _bypass(node: ir.Node) -> None:
    """Let readers of a Q or DQ read its input; after both are bypassed the pair is gone."""
    value = node.inputs[0]
    assert value is not None
    replace_value(node.outputs[0], value)


def _array(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(tensor.detach().cpu().numpy())


def _value(value: ir.Value | None) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    assert value is not None
    assert value.const_value is not None
    return np.asarray(value.const_value.numpy(), dtype=np.float64)
