"""Integer weights large enough to overflow the 16-bit sums of x86 CPUs without VNNI.

Before VNNI, x86 multiplies uint8 activations by int8 weights with VPMADDUBSW: two neighbouring products along
K are added in a *saturating* int16, ``sat16(a_k · w_k + a_(k+1) · w_(k+1))``. With ``a`` up to 255 a pair of
weights is safe where ``255 · |w_k + w_(k+1)| <= 32767`` for weights of one sign, which 7-bit weights always
keep; weights of opposite sign cannot overflow.

Which weights are neighbours was found by setting two weights to 127, all others to 0, and all activations
to 255, for every pair of K, on an AVX2 CPU without VNNI (ONNX Runtime 1.31.1; repeated by
``tests/deploy/test_saturation.py``):

- MatMulIntegerToFloat, QLinearMatMul, QGemm (also ``transB``), MatMulInteger, DynamicQuantizeMatMul,
  QAttention: K = (0, 1), (2, 3), (4, 5), …; never (1, 2).
- QLinearConv: the same pairs, within a group, of K ordered with channels innermost,
  ``[kh, kw, C_in / groups]``.
- Depthwise QLinearConv, ConvInteger, uint8 × uint8 and int8 × int8 kernels: exact.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from deploy.audit.execute import Executed
from deploy.audit.graph import attribute
from deploy.audit.macs import OPERANDS

__all__ = ["SaturationRisk", "adjacent_pairs", "find_risk", "worst_sums"]

_INT16_MAX = 32767
_ACTIVATION_MAX = 255
_KERNELS = frozenset(
    {"MatMulIntegerToFloat", "QLinearMatMul", "QGemm", "MatMulInteger", "DynamicQuantizeMatMul"}
    | {"QAttention", "QLinearConv"}
)


@dataclass(frozen=True)
class SaturationRisk:
    """A layer whose weights may saturate on CPUs without VNNI.

    Attributes:
        module: the PyTorch module.
        op: the executed operator.
        pairs: neighbouring weight pairs that can overflow.
        total: all neighbouring pairs.
        worst: the largest ``255 · |w_k + w_(k+1)|``; the limit is 32767.
    """

    module: str
    op: str
    pairs: int
    total: int
    worst: int


def find_risk(node: NodeProto, module: str, executed: Executed) -> SaturationRisk | None:
    """Check the weight of an executed integer kernel; None where it cannot saturate."""
    if node.op_type not in _KERNELS:
        return None
    weight = executed.graph.array(node.input[OPERANDS[node.op_type][1]])
    if weight is None or weight.dtype != np.int8:
        return None
    if executed.tensors[node.input[0]].dtype == np.int8:
        return None  # int8 × int8 kernels do not use VPMADDUBSW
    if (
        node.op_type == "QLinearConv"
        and weight.shape[1] == 1
        and attribute(node, "group", 1) == weight.shape[0]
    ):
        return None
    sums = worst_sums(adjacent_pairs(weight.astype(np.int32), node))
    over = int((sums > _INT16_MAX).sum())
    if not over:
        return None
    return SaturationRisk(module, node.op_type, over, sums.size, int(sums.max()))


def adjacent_pairs(weight: NDArray[np.int32], node: NodeProto) -> NDArray[np.int32]:
    """Arrange a weight as the pairs the kernel adds first.

    Args:
        weight: ``[…, K, N]`` of a matmul (``[N, K]`` with ``transB``), ``[O, C / groups, *kernel]`` of a
            convolution.
        node: the executed node it belongs to.

    Returns:
        ``[pairs, 2]``; a last weight without a neighbour is left out (alone it cannot overflow).
    """
    if node.op_type == "QLinearConv":
        rows = np.moveaxis(weight, 1, -1).reshape(weight.shape[0], -1)
    elif attribute(node, "transB", 0):
        rows = weight
    else:
        rows = np.moveaxis(weight, -2, -1).reshape(-1, weight.shape[-2])
    even = rows.shape[1] // 2 * 2
    return rows[:, :even].reshape(-1, 2)


def worst_sums(pairs: NDArray[np.int32]) -> NDArray[np.int32]:
    """The largest magnitude ``|a_k · w_k + a_(k+1) · w_(k+1)|`` over activations in 0…255, for each pair.

    Each activation is free: the worst is ``255 ·`` the sum of the positive weights, or of the negative ones.
    """
    positive = np.maximum(pairs, 0).sum(axis=1)
    negative = np.minimum(pairs, 0).sum(axis=1)
    return np.asarray(_ACTIVATION_MAX * np.maximum(positive, -negative), dtype=np.int32)
