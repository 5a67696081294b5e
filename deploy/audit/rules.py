"""Why ONNX Runtime left a quantized multiplication in float: one check for each rule of its CPU fusions.

The rules restate ``onnxruntime/core/optimizer/qdq_transformer/selectors_actions`` (``qdq_selectors.cc``,
``qdq_selector_action_transformer.cc``), ``qdq_s8_to_u8.cc`` and ``matmul_add_fusion.cc`` of ONNX Runtime
1.31. A new rule is a function decorated with ``@rule("name")``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto

from deploy.audit.macs import Kind
from deploy.audit.site import Site, Target

__all__ = ["RULES", "Finding", "diagnose", "rule"]


@dataclass(frozen=True)
class Finding:
    """A rule that was broken.

    Attributes:
        rule: its short name.
        reason: what stands in the model, in words.
        remedy: what to change.
    """

    rule: str
    reason: str
    remedy: str


Check = Callable[[Site], tuple[str, str] | None]

RULES: dict[str, Check] = {}
"""Rule name to check; a check returns ``(reason, remedy)`` or None where the rule is kept."""


def rule(name: str) -> Callable[[Check], Check]:
    """Register a check under a name."""

    def register(check: Check) -> Check:
        RULES[name] = check
        return check

    return register


def diagnose(site: Site) -> tuple[Finding, ...]:
    """Return every rule that the site breaks; empty where none of the known ones explains it."""
    return tuple(
        Finding(name, *broken) for name, check in RULES.items() if (broken := check(site)) is not None
    )


@rule("no-integer-kernel")
def _no_kernel(site: Site) -> tuple[str, str] | None:
    known = ("MatMul", "Gemm", "Conv", "FusedMatMul")
    if site.node.op_type in known:
        return None
    return (
        f"ONNX Runtime's CPU provider has no integer kernel that Q/DQ around {site.node.op_type} fuse into",
        "write it as MatMul, Gemm or Conv before quantizing, or leave it float",
    )


@rule("activation-not-quantized")
def _activation(site: Site) -> tuple[str, str] | None:
    plain = [o for o in site.activations if o.dequantize is None]
    if not plain:
        return None
    source = plain[0].source
    between = (
        f"it comes from {source.op_type} {source.name!r}" if source is not None else "it is a model input"
    )
    return (
        f"activation {plain[0].tensor!r} has no Q/DQ pair directly before this operator: {between}",
        "put QuantizeLinear and DequantizeLinear on this input, with nothing that computes in between",
    )


@rule("weight-not-quantized")
def _weight(site: Site) -> tuple[str, str] | None:
    if site.weight is None or site.weight.dequantize is not None:
        return None
    return (
        f"weight {site.weight.tensor!r} is float; only the activation is quantized",
        "store the weight as integers behind a DequantizeLinear",
    )


@rule("computed-scale")
def _computed_scale(site: Site) -> tuple[str, str] | None:
    for node in _pairs(site):
        if any(i and not site.graph.is_constant(i) for i in node.input[1:]):
            return (
                f"the scale or zero point of {node.name!r} is computed from the model's inputs",
                "use a constant scale and zero point, or quantize_dynamic's operators",
            )
    return None


@rule("scale-type")
def _scale_type(site: Site) -> tuple[str, str] | None:
    for node in _pairs(site):
        scale = site.scale(node)
        if scale is not None and scale.dtype != np.float32:
            return (
                f"the scale of {node.name!r} is {scale.dtype}; the CPU's integer kernels take float32 scales",
                "export this target with float32 scales",
            )
    return None


@rule("element-type")
def _element_type(site: Site) -> tuple[str, str] | None:
    eight_bit = (TensorProto.INT8, TensorProto.UINT8)
    for operand in site.operands:
        if operand.dequantize is None:
            continue
        kind = site.element_type(operand.dequantize)
        if kind and kind not in eight_bit:
            name = TensorProto.DataType.Name(kind).lower()
            return (
                f"{operand.tensor!r} is quantized to {name}; the integer kernels multiply 8-bit values",
                "quantize it to 8 bits",
            )
    return None


@rule("signed-activation-unsigned-weight")
def _sign(site: Site) -> tuple[str, str] | None:
    types = [site.element_type(o.dequantize) for o in site.operands if o.dequantize is not None]
    if len(types) == 2 and types[0] == TensorProto.INT8 and types[1] == TensorProto.UINT8:
        return "the activation is int8 and the weight uint8", "use an int8 weight, or a uint8 activation"
    return None


@rule("per-channel-activation")
def _per_channel_activation(site: Site) -> tuple[str, str] | None:
    for operand in site.activations:
        scale = site.scale(operand.dequantize) if operand.dequantize is not None else None
        if scale is not None and scale.size > 1:
            return (
                f"activation {operand.tensor!r} has {scale.size} scales; one per tensor is supported",
                "quantize activations per tensor",
            )
    return None


@rule("conv-without-output-q")
def _conv_output(site: Site) -> tuple[str, str] | None:
    if site.node.op_type != "Conv" or _reaches_q_through_clip(site) or site.output_quantized:
        return None
    readers = ", ".join(sorted({r.op_type for r in site.readers})) or "the model's output"
    return (
        f"no QuantizeLinear on the Conv's output (it goes to {readers}); QLinearConv writes integers only",
        "quantize the Conv's output too, or leave this Conv float",
    )


@rule("clip-not-absorbed")
def _clip(site: Site) -> tuple[str, str] | None:
    if site.output_quantized or not _reaches_q_through_clip(site):
        return None
    clip = site.readers[0]
    return (
        f"{clip.op_type} stands between the operator and its QuantizeLinear; it is only absorbed when the "
        "integers' lower end already means its lower bound",
        f"use an unsigned output whose zero point is 0 after {clip.op_type}, or quantize before it",
    )


@rule("output-shared")
def _output_shared(site: Site) -> tuple[str, str] | None:
    others = [r for r in site.readers if r.op_type != "QuantizeLinear"]
    used = bool(others) or site.node.output[0] in site.graph.outputs
    if not site.output_quantized or not used:
        return None
    names = ", ".join(sorted({o.op_type for o in others})) or "the model's output"
    return (
        f"the output feeds a QuantizeLinear and, in float, {names}",
        "let every reader of the output go through the same Q/DQ pair",
    )


@rule("output-type")
def _output_type(site: Site) -> tuple[str, str] | None:
    quantize = next((r for r in site.readers if r.op_type == "QuantizeLinear"), None)
    first = site.activations[0].dequantize if site.activations else None
    if quantize is None or first is None:
        return None
    stored = site.graph.initializers.get(quantize.input[2]) if len(quantize.input) > 2 else None
    output = int(stored.data_type) if stored is not None else int(TensorProto.UINT8)
    given = site.element_type(first)
    if not given or given == output:
        return None
    name = TensorProto.DataType.Name
    return (
        f"the input is {name(given).lower()} and the output {name(output).lower()}; they must match",
        "use one integer type for all activations",
    )


@rule("matmul-add-fusion")
def _matmul_add(site: Site) -> tuple[str, str] | None:
    if site.node.op_type != "MatMul" or site.executed.op_type != "Gemm" or site.output_quantized:
        return None
    return (
        "MatMulAddFusion turned MatMul + Add(float bias) into a Gemm before Q/DQ are fused (static shapes; "
        "onnxruntime PR #22494), and a Gemm with a float bias and no output QuantizeLinear is not matched",
        "export with a dynamic batch, or quantize the bias to int32 behind a DequantizeLinear, or build the "
        "session with disabled_optimizers=['MatMulAddFusion']",
    )


@rule("gemm-float-bias")
def _gemm_bias(site: Site) -> tuple[str, str] | None:
    if site.node.op_type != "Gemm" or not site.bias_is_float() or site.output_quantized:
        return None
    return (
        "a Gemm with a float bias and no QuantizeLinear on its output is not matched",
        "quantize the bias to int32 (scale = activation scale × weight scale), or quantize the output, or "
        "write it as MatMul + Add with a dynamic batch",
    )


@rule("s8-activation-shared")
def _s8_shared(site: Site) -> tuple[str, str] | None:
    if site.target is not Target.ORT_X86:
        return None
    for operand in site.activations:
        node = operand.dequantize
        if node is None or site.element_type(node) != TensorProto.INT8:
            continue
        quantize = site.graph.producer.get(node.input[0])
        integers = len(site.graph.consumers(node.input[0]))
        floats = len(site.graph.consumers(node.output[0]))
        if quantize is None or quantize.op_type != "QuantizeLinear":
            return (
                f"int8 activation {operand.tensor!r} does not come straight from a QuantizeLinear, so it "
                "cannot be re-encoded as uint8, which x86 needs",
                "use uint8 activations (zero point + 128 is lossless)",
            )
        if integers > 1 or floats > 1:
            return (
                f"int8 activation {operand.tensor!r}: its QuantizeLinear {quantize.name!r} feeds "
                f"{max(integers, floats)} readers; x86 re-encodes int8 as uint8 only where there is one",
                "use uint8 activations (zero point + 128 is lossless), or one private Q/DQ pair per reader",
            )
    return None


def left_out(kind: Kind) -> Finding:
    """Describe an operator the recipe never meant to quantize."""
    what = "attention matmul (activation × activation)" if kind is Kind.ACTIVATION else "operator"
    return Finding("not-in-recipe", f"not quantized by the recipe: no Q/DQ on this {what}", "")


def _pairs(site: Site) -> list[NodeProto]:
    """The DequantizeLinear nodes on the factors, and the QuantizeLinear before each."""
    found = [o.dequantize for o in site.operands if o.dequantize is not None]
    quantize = [site.graph.producer.get(n.input[0]) for n in found]
    return found + [q for q in quantize if q is not None and q.op_type == "QuantizeLinear"]


def _reaches_q_through_clip(site: Site) -> bool:
    if len(site.readers) != 1 or site.readers[0].op_type not in ("Relu", "Clip"):
        return False
    return any(r.op_type == "QuantizeLinear" for r in site.graph.consumers(site.readers[0].output[0]))
