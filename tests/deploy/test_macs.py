"""MAC counts of single operators against PyTorch's operation counter or a formula written out."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from deploy.audit import audit_model
from deploy.audit.macs import Kind


def count(
    tmp_path: Path,
    op: str,
    shapes: dict[str, tuple[int, ...]],
    weights: dict[str, tuple[int, ...]],
    domain: str = "",
    **attrs: object,
) -> dict[Kind, int]:
    stored = {k: np.random.default_rng(0).standard_normal(s).astype(np.float32) for k, s in weights.items()}
    node = helper.make_node(op, [*shapes, *weights], ["y"], name="n", domain=domain, **attrs)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in shapes.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in stored.items()],
    )
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    report = audit_model(path)
    return {m.kind: m.macs for m in report.multiplications}


def by_torch(function: object, *shapes: tuple[int, ...], **options: object) -> int:
    assert callable(function)
    with FlopCounterMode(display=False) as counter:
        function(*(torch.zeros(s) for s in shapes), **options)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(("channels", "out", "group"), [(4, 6, 1), (8, 8, 8), (8, 16, 2), (16, 32, 1)])
def test_convolutions(tmp_path: Path, channels: int, out: int, group: int) -> None:
    x, w = (1, channels, 9, 9), (out, channels // group, 3, 3)
    got = count(tmp_path, "Conv", {"x": x}, {"w": w}, group=group, strides=[2, 2])
    assert got == {Kind.CONV: by_torch(functional.conv2d, x, w, groups=group, stride=2)}


def test_a_transposed_convolution(tmp_path: Path) -> None:
    x, w = (1, 4, 5, 5), (4, 3, 2, 2)
    got = count(tmp_path, "ConvTranspose", {"x": x}, {"w": w}, group=2)
    per_input = 3 * 2 * 2  # each input element is spread over C_out / groups · kernel weights
    assert got == {Kind.CONV: 4 * 5 * 5 * per_input}


def test_matrix_products(tmp_path: Path) -> None:
    assert count(tmp_path, "MatMul", {"x": (2, 5, 8)}, {"w": (8, 3)}) == {Kind.LINEAR: 2 * 5 * 8 * 3}
    assert count(tmp_path, "Gemm", {"x": (8, 5)}, {"w": (3, 8)}, transA=1, transB=1) == {
        Kind.LINEAR: 5 * 8 * 3
    }
    a, b = (2, 3, 5, 8), (2, 3, 8, 7)
    assert count(tmp_path, "MatMul", {"a": a, "b": b}, {}) == {Kind.ACTIVATION: by_torch(torch.matmul, a, b)}


@pytest.mark.parametrize(
    ("equation", "a", "b"),
    [("bid,bjd->bij", (2, 5, 8), (2, 7, 8)), ("...id,...jd->...ij", (2, 3, 5, 8), (2, 3, 7, 8))],
)
def test_einsum(tmp_path: Path, equation: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    got = count(tmp_path, "Einsum", {"a": a, "b": b}, {}, equation=equation)
    reference = by_torch(lambda x, y: torch.matmul(x, y.transpose(-1, -2)), a, b)
    assert sum(got.values()) == reference


def test_attention_operators(tmp_path: Path) -> None:
    q, kv = (1, 3, 5, 8), (1, 3, 7, 8)
    reference = by_torch(lambda a, b, c: (a @ b.transpose(-1, -2)) @ c, q, kv, kv)
    assert count(tmp_path, "Attention", {"q": q, "k": kv, "v": kv}, {}) == {Kind.ACTIVATION: reference}
    flat_q, flat_kv = (1, 5, 24), (1, 7, 24)
    flat = {"q": flat_q, "k": flat_kv, "v": flat_kv}
    assert count(tmp_path, "MultiHeadAttention", flat, {}, domain="com.microsoft", num_heads=3) == {
        Kind.ACTIVATION: reference
    }
    packed = count(
        tmp_path,
        "Attention",
        {"x": (1, 5, 24)},
        {"w": (24, 72), "b": (72,)},
        domain="com.microsoft",
        num_heads=3,
    )
    assert packed == {Kind.LINEAR: 5 * 24 * 72, Kind.ACTIVATION: 2 * 5 * 5 * 24}
