"""Rules about the product of a multiplication: its bias, its QuantizeLinear, its readers."""

from onnx import TensorProto

from deploy.audit.rules.registry import rule
from deploy.audit.site import Site, Target

__all__: list[str] = []

_EIGHT_BIT = (TensorProto.INT8, TensorProto.UINT8)


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
    given, output = site.executed_type(first), site.executed_type(quantize)
    if given not in _EIGHT_BIT or output not in _EIGHT_BIT or given == output:
        return None
    name = TensorProto.DataType.Name
    kept = (
        f" (int8 in the model, and x86 re-encodes it as uint8 only where it has one reader, not "
        f"{site.pair_readers(quantize)})"
        if output == TensorProto.INT8 and site.target is Target.ORT_X86
        else ""
    )
    return (
        f"the input is {name(given).lower()} and the output {name(output).lower()}{kept}; they must match",
        "use one integer type for all activations; uint8 is safe everywhere on x86",
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


def _reaches_q_through_clip(site: Site) -> bool:
    if len(site.readers) != 1 or site.readers[0].op_type not in ("Relu", "Clip"):
        return False
    return any(r.op_type == "QuantizeLinear" for r in site.graph.consumers(site.readers[0].output[0]))
