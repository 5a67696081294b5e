"""Rules about the factors of a multiplication: the activation and the weight."""

import numpy as np
from onnx import NodeProto, TensorProto

from deploy.audit.graph import attribute
from deploy.audit.rules.registry import rule
from deploy.audit.site import Site, Target

__all__: list[str] = []


@rule("fp8-simulated")
def _fp8(site: Site) -> tuple[str, str] | None:
    if not site.fp8:
        return None
    return (
        "ONNX Runtime's CPU provider has no FP8 kernels: the numbers are rounded to FP8 and multiplied in "
        "float32, which shows the accuracy and not the speed",
        "run FP8 on a GPU that has it (target tensorrt)",
    )


@rule("grouped-weight")
def _grouped_weight(site: Site) -> tuple[str, str] | None:
    if site.node.op_type != "MatMulNBits":
        return None
    return (
        "the activation is rounded to integers, but the weight has a scale for each group of "
        f"{attribute(site.node, 'block_size')}, and integer kernels take one per channel; the product is "
        "computed in float32",
        "for speed give the weight one scale per channel; for accuracy alone leave it",
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
    weight = site.weight.dequantize if site.weight is not None else None
    activation = site.activations[0].dequantize if site.activations else None
    if weight is None or activation is None or site.element_type(weight) != TensorProto.UINT8:
        return None
    if site.executed_type(activation) != TensorProto.INT8:
        return None
    return "the activation is int8 and the weight uint8", "use an int8 weight, or a uint8 activation"


@rule("gemm-weight-without-zero-point")
def _weight_zero_point(site: Site) -> tuple[str, str] | None:
    node = site.weight.dequantize if site.weight is not None else None
    becomes_gemm = "Gemm" in (site.node.op_type, site.executed.op_type)
    if node is None or not becomes_gemm or (len(node.input) > 2 and node.input[2]):
        return None
    return (
        f"the weight's {node.name!r} names no zero point; QGemm is matched only where it does",
        "give it an initializer of zeros as its third input (the same numbers)",
    )


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


@rule("s8-activation-shared")
def _s8_shared(site: Site) -> tuple[str, str] | None:
    if site.target is not Target.ORT_X86:
        return None
    for operand in site.activations:
        node = operand.dequantize
        if node is None or site.executed_type(node) != TensorProto.INT8:
            continue
        quantize = site.graph.producer.get(node.input[0])
        if quantize is None or quantize.op_type != "QuantizeLinear":
            return (
                f"int8 activation {operand.tensor!r} does not come straight from a QuantizeLinear, so it "
                "cannot be re-encoded as uint8, which x86 needs",
                "use uint8 activations (zero point + 128 is lossless)",
            )
        return (
            f"int8 activation {operand.tensor!r}: its QuantizeLinear {quantize.name!r} feeds "
            f"{site.pair_readers(quantize)} readers; x86 re-encodes int8 as uint8 only where there is one",
            "use uint8 activations (zero point + 128 is lossless), or one private Q/DQ pair per reader",
        )
    return None


def _pairs(site: Site) -> list[NodeProto]:
    """The DequantizeLinear nodes on the factors, and the QuantizeLinear before each."""
    found = [o.dequantize for o in site.operands if o.dequantize is not None]
    quantize = [site.graph.producer.get(n.input[0]) for n in found]
    return found + [q for q in quantize if q is not None and q.op_type == "QuantizeLinear"]
