"""onnxsim under a contract: what it must not touch is checked, and a result that breaks it is not used."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxsim
from numpy.typing import NDArray
from torch import Tensor

from deploy.onnxruntime.build import Optimization, SessionSettings, build_session

__all__ = ["Simplified", "SimplifyNote", "broken_promise", "simplify"]

WHOLE = ("LayerNormalization", "Gelu", "Softmax", "MatMul", "Conv")
"""Operators whose number must not change: the first three must not be taken apart, and MatMul + Add must not
become Reshape → Gemm → Reshape, which ONNX Runtime does not run in integers."""

TOLERANCE = 1e-4
"""Largest output difference allowed, relative to the largest output: folding constants reorders no sums that
matter, so what remains is float32 rounding."""


@dataclass(frozen=True)
class SimplifyNote:
    """What became of the simplifier's result.

    Attributes:
        used: whether the simplified graph was kept.
        reason: the promise it broke, or ''.
        nodes_before: number of nodes given.
        nodes_after: number of nodes returned.
    """

    used: bool
    reason: str
    nodes_before: int
    nodes_after: int


@dataclass(frozen=True, eq=False)
class Simplified:
    """The model to go on with, and the note."""

    model: ir.Model
    note: SimplifyNote


def simplify(model: ir.Model, example: Tensor) -> Simplified:
    """Simplify, and keep the result only if it honours the contract of :func:`broken_promise`.

    Args:
        model: any model with one input.
        example: [N, C, H, W] input to compare the outputs on.
    """
    before = ir.to_proto(model)
    count = len(before.graph.node)
    try:
        after, checked = onnxsim.simplify(
            before,
            skipped_optimizers=["fuse_matmul_add_bias_into_gemm", "fuse_matmul_add_bias_into_gemm_batched"],
        )
    except Exception as error:
        reason = f"onnxsim failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return Simplified(model, SimplifyNote(False, reason, count, count))
    broken = broken_promise(before, after, example.numpy()) if checked else "onnxsim's own check failed"
    if broken is not None:
        return Simplified(model, SimplifyNote(False, broken, count, count))
    del after.metadata_props[:]  # onnxsim keeps its own records there
    after.metadata_props.extend(before.metadata_props)
    return Simplified(ir.from_proto(after), SimplifyNote(True, "", count, len(after.graph.node)))


def broken_promise(
    before: onnx.ModelProto, after: onnx.ModelProto, example: NDArray[np.float32]
) -> str | None:
    """The first promise that a simplified model breaks, in words; None when it keeps all.

    1. The same Q/DQ pairs: as many QuantizeLinear and DequantizeLinear for each scale.
    2. No constant DequantizeLinear folded into a float weight (a case of 1, named separately).
    3. LayerNormalization, Gelu, Softmax, MatMul and Conv kept whole.
    4. Equal outputs on the example.
    """
    for op_type in ("QuantizeLinear", "DequantizeLinear"):
        had, has = _scales(before, op_type), _scales(after, op_type)
        for scale in sorted((had - has) + (has - had)):
            if (
                op_type == "DequantizeLinear"
                and not has[scale]
                and not _scales(before, "QuantizeLinear")[scale]
            ):
                return f"the weight DequantizeLinear with scale '{scale}' was folded"
            return f"{op_type} with scale '{scale}': {had[scale]} before, {has[scale]} after"
    counts = [Counter(node.op_type for node in m.graph.node) for m in (before, after)]
    for op_type in WHOLE:
        if counts[0][op_type] != counts[1][op_type]:
            return f"{counts[0][op_type]} {op_type} before, {counts[1][op_type]} after"
    expected, got = (_run(m, example) for m in (before, after))
    difference = float(np.abs(expected - got).max() / max(np.abs(expected).max(), 1e-30))
    if not difference <= TOLERANCE:
        return f"the output changed by {difference:.2e} of its largest value (allowed: {TOLERANCE:g})"
    return None


def _scales(model: onnx.ModelProto, op_type: str) -> Counter[str]:
    return Counter(node.input[1] for node in model.graph.node if node.op_type == op_type)


def _run(model: onnx.ModelProto, example: NDArray[np.float32]) -> NDArray[np.float64]:
    settings = SessionSettings(optimization=Optimization.OFF, intra_op_threads=1)
    session = build_session(model.SerializeToString(), settings)
    outputs = session.run(None, {session.get_inputs()[0].name: example})
    return np.asarray(outputs[0], dtype=np.float64)
