"""Audit a TensorRT engine: which of a model's multiplications its kernels do in 8 bits.

The engine says itself what it is made of (``IEngineInspector``, or ``trtexec --exportLayerInfo``): for each
layer a kernel (``TacticName``), its tensors with their types, and the nodes of the ONNX file that it does
(``Metadata``). The work of these nodes is counted on the ONNX file.

Source: TensorRT developer guide, "Engine Inspector"; types stand in ``Format/Datatype`` up to TensorRT 10 and
in ``DataType`` from 11 on (migration guide of IEngineInspector).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import TensorProto

from deploy.audit.execute import Executed, execute
from deploy.audit.graph import GraphIndex, module_name
from deploy.audit.macs import MAC_OPS, Kind, work_of
from deploy.audit.report import AuditReport, Multiplication
from deploy.audit.rules import Finding, left_out, weight_only
from deploy.audit.site import Site, Target
from deploy.audit.trace import filter_shape
from deploy.cpu import cpu_info
from deploy.onnxruntime.build import Optimization
from quant.errors import BadInput

__all__ = ["EngineLayer", "audit_engine", "engine_layers"]

_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_EIGHT_BITS = re.compile(r"int8|fp8|e4m3|_i8|s8s8|imma", re.IGNORECASE)
_WIDER = re.compile(r"f16|f32|fp16|half|hmma", re.IGNORECASE)  # bf16 and tf32 among them
_CONVERSIONS = ("reformat", "cast", "quantize")
_MOST_NAMED = 5


@dataclass(frozen=True)
class EngineLayer:
    """A layer of an engine.

    Attributes:
        name: TensorRT's own.
        kind: its ``LayerType``.
        kernel: its ``TacticName``; empty where none is told.
        inputs: types of what it reads.
        outputs: types of what it writes.
        nodes: names of the ONNX nodes that it does.
    """

    name: str
    kind: str
    kernel: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def eight_bits(self) -> bool:
        """Whether it multiplies 8-bit numbers: by what its kernel is called, else by what it reads."""
        if _EIGHT_BITS.search(self.kernel):
            return True
        if _WIDER.search(self.kernel):
            return False
        return bool(self.inputs) and _EIGHT_BITS.search(self.inputs[0]) is not None

    @property
    def converts_only(self) -> bool:
        """Whether all it does is to change types or layouts."""
        if any(word in self.kind.lower() for word in _CONVERSIONS):
            return True
        last = [node.rpartition("/")[2] for node in self.nodes]
        return all(re.fullmatch(r"(QuantizeLinear|DequantizeLinear|Cast)(_\d+)?", name) for name in last)


def engine_layers(information: Mapping[str, Any]) -> tuple[EngineLayer, ...]:
    """Read what the inspector says.

    Raises:
        BadInput: it is not that, or the engine was built without details.
    """
    layers = information.get("Layers")
    if not isinstance(layers, list) or not layers:
        raise BadInput("this is not the layer information of a TensorRT engine: it has no 'Layers'")
    if all(isinstance(layer, str) for layer in layers):
        raise BadInput(
            "the engine tells the names of its layers only: build it with profiling verbosity DETAILED, as "
            "`octavo build` does"
        )
    return tuple(_layer(layer) for layer in layers if isinstance(layer, Mapping))


def audit_engine(
    model: Path,
    information: Mapping[str, Any],
    runtime: str,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> AuditReport:
    """Audit an engine.

    Args:
        model: the ONNX file that it was built of.
        information: what the inspector says of it, as JSON.
        runtime: the library and its version.
        input_shapes: see :func:`deploy.audit.audit.audit_model`.

    Raises:
        BadInput: the model cannot be read, or ``information`` is not an engine's, or of another model.
    """
    layers = engine_layers(information)
    executed = execute(model, {}, input_shapes, optimization=Optimization.OFF)
    doing = {node: layer for layer in layers for node in layer.nodes}
    multiplications = tuple(
        found
        for node in executed.graph.graph.node
        if node.op_type in MAC_OPS
        for found in _multiplications(node.name, executed, doing)
    )
    known = sum(m.node in doing for m in multiplications)
    if multiplications and not known:
        raise BadInput(f"{model}: none of its products is in this engine: it was built of another model")
    return AuditReport(
        model=str(model),
        target="tensorrt",
        runtime=runtime,
        cpu=cpu_info(),
        inputs={i.name: executed.tensors[i.name].shape for i in executed.original.graph.input
                if i.name in executed.tensors},
        multiplications=multiplications,
        leftovers=(),
        saturation=(),
        notes=tuple(_notes(layers, multiplications, known)),
    )  # fmt: skip


def _multiplications(name: str, executed: Executed, doing: Mapping[str, EngineLayer]) -> list[Multiplication]:
    graph: GraphIndex = executed.graph
    node = graph.nodes[name]
    layer = doing.get(name)
    written = executed.original.nodes.get(name, node)
    found = []
    for work in work_of(node, graph, executed.tensors, filter_shape(written, executed.original)):
        site = Site(written, node, executed.original, work.kind, Target.ORT_X86)
        integer = layer is not None and layer.eight_bits
        weight_alone = _weight_alone(site)
        found.append(
            Multiplication(
                module=module_name(written, executed.original),
                node=name,
                op=layer.name if layer is not None else node.op_type,
                original=node.op_type,
                kind=work.kind,
                macs=work.macs,
                integer=integer,
                intended=site.quantized and not weight_alone,
                findings=() if integer else _findings(site, layer, work.kind, weight_alone),
            )
        )
    return found


def _weight_alone(site: Site) -> bool:
    """Whether the model quantizes the weight and, on purpose, not what it is multiplied with."""
    stored = site.weight is not None and site.weight.dequantize is not None
    return stored and all(operand.dequantize is None for operand in site.activations)


def _findings(site: Site, layer: EngineLayer | None, kind: Kind, weight_alone: bool) -> tuple[Finding, ...]:
    if layer is None:
        return (
            Finding(
                "not-in-engine",
                "no layer of the engine names this product: it was merged without a trace, or folded",
                "look for its neighbours in the engine's layer information",
            ),
        )
    if weight_alone:
        assert site.weight is not None
        assert site.weight.dequantize is not None
        bits = 4 if site.element_type(site.weight.dequantize) == TensorProto.INT4 else 8
        return (weight_only(bits),)
    if not site.quantized:
        return (left_out(kind),)
    kernel = layer.kernel or layer.kind
    together = f", together with {len(layer.nodes) - 1} other nodes" if len(layer.nodes) > 1 else ""
    bare = [i for i, operand in enumerate(site.operands) if operand.dequantize is None]
    if bare:
        return (
            Finding(
                "one-factor",
                f"kernel '{kernel}' multiplies in float, for only one factor is quantized{together}",
                "quantize both factors, or neither",
            ),
        )
    return (
        Finding(
            "float-kernel",
            f"TensorRT chose kernel '{kernel}' on {', '.join(layer.inputs) or 'unknown types'}{together}, "
            "though both factors are quantized",
            "see whether the layer is small (a side below 16), or leave it float and spare its Q/DQ",
        ),
    )


def _layer(layer: Mapping[str, Any]) -> EngineLayer:
    name = str(layer.get("Name", ""))
    nodes = _ONNX_NODE.findall(str(layer.get("Metadata", "")))
    return EngineLayer(
        name=name,
        kind=str(layer.get("LayerType", "")),
        kernel=str(layer.get("TacticName", "")),
        inputs=_types(layer.get("Inputs")),
        outputs=_types(layer.get("Outputs")),
        nodes=tuple(nodes or [part.strip() for part in name.split(" + ")]),
    )


def _types(tensors: Any) -> tuple[str, ...]:
    found = [t for t in tensors if isinstance(t, Mapping)] if isinstance(tensors, list) else []
    return tuple(str(t.get("DataType") or t.get("Format/Datatype") or "unknown") for t in found)


def _notes(layers: Sequence[EngineLayer], multiplications: Sequence[Multiplication], known: int) -> list[str]:
    notes = [
        f"the engine has {len(layers)} layers; {known} of {len(multiplications)} products were found in them"
    ]
    converting = [layer.name for layer in layers if layer.converts_only]
    if converting:
        named = ", ".join(f"'{name}'" for name in converting[:_MOST_NAMED])
        more = f" and {len(converting) - _MOST_NAMED} more" if len(converting) > _MOST_NAMED else ""
        notes.append(f"{len(converting)} layers only convert types or layouts: {named}{more}")
    if any(re.search("fp8|e4m3", layer.kernel + "".join(layer.inputs), re.IGNORECASE) for layer in layers):
        notes.append("kernels on FP8 are counted with those on integers")
    return notes
