"""Audit how much of a quantized ONNX model ONNX Runtime really computes on integers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import NodeProto

from deploy.audit.execute import Executed, execute
from deploy.audit.graph import attribute, module_name
from deploy.audit.leftovers import find_leftovers
from deploy.audit.macs import MAC_OPS, Kind, is_integer, work_of
from deploy.audit.report import AuditReport, Multiplication
from deploy.audit.rules import Finding, diagnose, left_out, weight_only
from deploy.audit.saturation import SaturationRisk, find_risk
from deploy.audit.site import Site, Target
from deploy.audit.trace import filter_shape, find_original
from deploy.cpu import cpu_info, has_vnni
from quant.errors import Unsupported

__all__ = ["audit_model"]

_CONFIG: Mapping[Target, Mapping[str, str]] = {
    Target.ORT_X86: {"session.qdqisint8allowed": "0"},
    Target.ORT_ARM64: {"session.qdqisint8allowed": "1"},
}
_UNCOUNTED = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM", "DeformConv", "QMoE", "MoE"})
_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})


def audit_model(
    path: Path | str,
    target: str = "ort-x86",
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    disabled_optimizers: Sequence[str] = (),
    graph: Path | None = None,
) -> AuditReport:
    """Audit any ONNX model: Q/DQ, QOperator, dynamically quantized, or float.

    Args:
        path: the ONNX file.
        target: ``ort-x86`` or ``ort-arm64`` (its fusion decisions, emulated on any CPU).
        input_shapes: input name to shape, for inputs with unknown sizes beyond the batch.
        disabled_optimizers: ORT optimizers the model is deployed without, e.g. ``MatMulAddFusion``.
        graph: what a session on the target saved as the graph it executes, instead of what this machine's
            would execute.

    Raises:
        BadInput: the file is not a model, or a shape is missing or wrong.
        Unsupported: the target is not known, or the model cannot run on this ONNX Runtime.
    """
    chosen = _target(target)
    executed = execute(Path(path), _CONFIG[chosen], input_shapes, disabled_optimizers, graph=graph)
    multiplications: list[Multiplication] = []
    risks: list[SaturationRisk] = []
    for node in executed.graph.graph.node:
        if node.op_type not in MAC_OPS:
            continue
        found = list(_multiplications(node, executed, chosen))
        multiplications += found
        risk = find_risk(node, found[0].module, executed) if found else None
        if risk is not None:
            risks.append(risk)
    inputs = {i.name: executed.tensors[i.name].shape for i in executed.original.graph.input
              if i.name in executed.tensors and i.name not in executed.original.initializers}  # fmt: skip
    return AuditReport(
        model=str(path),
        target=str(chosen),
        runtime=ort.__version__,
        cpu=cpu_info(),
        inputs=inputs,
        multiplications=tuple(multiplications),
        leftovers=find_leftovers(executed),
        saturation=tuple(risks) if chosen is Target.ORT_X86 else (),
        notes=tuple(_notes(executed, chosen, bool(risks), multiplications, graph is None)),
        simulated=executed.simulated,
    )


def _target(name: str) -> Target:
    try:
        return Target(name)
    except ValueError:
        raise Unsupported(
            f"target {name!r} cannot be audited; known: {', '.join(Target)}. The audit reads the graph that "
            "ONNX Runtime's CPU provider executes; other runtimes decide inside their own builder"
        ) from None


def _multiplications(node: NodeProto, executed: Executed, target: Target) -> Iterator[Multiplication]:
    original = find_original(node, executed.graph, executed.original)
    named = original if original is not None else node
    graph = executed.original if original is not None else executed.graph
    for work in work_of(node, executed.graph, executed.tensors, filter_shape(original, executed.original)):
        integer = is_integer(node, work.kind)
        intended = False
        findings: tuple[Finding, ...] = (_not_meant(node, work.kind),)
        if not integer and original is not None:
            site = Site(original, node, executed.original, work.kind, target)
            intended = site.quantized
            findings = diagnose(site) if intended else findings
        yield Multiplication(
            module=module_name(named, graph),
            node=node.name,
            op=node.op_type,
            original=original.op_type if original is not None else "",
            kind=work.kind,
            macs=work.macs,
            integer=integer,
            intended=intended,
            findings=() if integer else findings,
        )


def _not_meant(node: NodeProto, kind: Kind) -> Finding:
    if node.op_type == "MatMulNBits":
        bits = attribute(node, "bits", 4)
        assert isinstance(bits, int)
        return weight_only(bits)
    return left_out(kind)


def _notes(
    executed: Executed,
    target: Target,
    risky: bool,
    multiplications: Sequence[Multiplication],
    made_here: bool,
) -> Iterator[str]:
    nodes = executed.graph.graph.node
    if target is Target.ORT_ARM64 and made_here:
        yield (
            "ort-arm64 is emulated: fusion decisions of ARM (session.qdqisint8allowed=1) on this CPU; float "
            "layouts and speed may differ on the device"
        )
    if risky and target is Target.ORT_X86:
        here = "has VNNI: exact here" if has_vnni() else "shows no VNNI: results here may be affected"
        yield (
            "some 8-bit weights may saturate in 16-bit sums on x86 CPUs without VNNI (7-bit weights never "
            f"do); this CPU {here}"
        )
    if target is Target.ORT_X86:
        signed = sum(_signed_kernel(n, executed) for n in nodes)
        if signed:
            yield f"{signed} integer kernels take int8 activations; on x86 uint8 activations are faster"
    packed = [m for m in multiplications if m.op == "MatMulNBits"]
    if packed:
        integer = sum(m.integer for m in packed)
        yield (
            f"{len(packed)} products hold their weights in few bits (MatMulNBits); {integer} of them "
            "quantize their activations to int8 on the fly (accuracy_level 4) and count as integer, the "
            "others multiply in float32"
        )
    simulated = sum(any(f.rule == "fp8-simulated" for f in m.findings) for m in multiplications)
    if simulated:
        yield f"{simulated} products are FP8 simulated in float32: this CPU has no FP8 kernels"
    if executed.simulated:
        yield (
            f"simulated: {', '.join(map(str, executed.simulated))} compute the right integers by standard "
            "operators in int64 and float64; no runtime has such kernels, so their time says nothing"
        )
    uncounted = sorted({n.op_type for n in nodes if n.op_type in _UNCOUNTED})
    if uncounted:
        yield f"not counted as multiply-accumulates: {', '.join(uncounted)}"
    if any(n.op_type in _CONTROL_FLOW for n in nodes):
        yield "operators inside If, Loop and Scan are not audited"


def _signed_kernel(node: NodeProto, executed: Executed) -> bool:
    if node.op_type not in MAC_OPS:
        return False
    info = executed.tensors.get(node.input[0])
    return info is not None and info.dtype == np.int8
