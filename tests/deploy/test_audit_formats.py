"""Formats that no integer kernel takes are called by their names, and nothing of them counts as integer."""

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from rich.console import Console

from deploy.audit import audit_model, render
from deploy.onnxruntime.build import SessionSettings, build_session

K, N, BLOCK = 64, 24, 16


def packed(path: Path, level: int, bits: int = 4, body: str = "") -> Path:
    """``y = MatMulNBits(x)`` of random codes; ``body`` may put something between x and the product."""
    rng = np.random.default_rng(0)
    stored = {
        "codes": rng.integers(0, 256, (N, K // BLOCK, BLOCK * bits // 8)).astype(np.uint8),
        "scale": rng.uniform(0.01, 0.03, (N, K // BLOCK)).astype(np.float32),
        "s": np.float32(0.05),
        "z": np.uint8(128),
    }
    attributes = f"K={K}, N={N}, bits={bits}, block_size={BLOCK}, accuracy_level={level}"
    read = "d" if body else "x"
    proto = parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
    g (float[N, 5, {K}] x) => (float[N, 5, {N}] y) {{
      {body}
      y = com.microsoft.MatMulNBits<{attributes}>({read}, codes, scale)
    }}""")
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items() if k in used
    )
    proto.graph.node[-1].name = "net.fc/MatMulNBits"
    onnx.save(proto, path)
    return path


def rounds_its_activations(path: Path, level: int, bits: int) -> bool:
    """Whether a kernel's result is off by more than float32's rounding, 1e-5; 8 bits are off by 1e-3."""
    x = np.random.default_rng(1).standard_normal((1, 5, K)).astype(np.float32)
    files = (packed(path.with_name(f"{n}.onnx"), n, bits) for n in (1, level))
    exact, got = (build_session(file, SessionSettings()).run(None, {"x": x})[0] for file in files)
    return bool(np.abs(got - exact).max() > 1e-4 * np.abs(exact).max())


def test_weight_only_products_are_not_integer_work(tmp_path: Path) -> None:
    report = audit_model(packed(tmp_path / "m.onnx", 1))
    assert (report.weight_share, report.unfused, report.left_float) == (0.0, (), ())
    (product,) = report.weight_only
    assert (product.module, product.macs) == ("net.fc", 5 * K * N)
    assert "4-bit" in product.findings[0].reason
    assert any("0 of them quantize" in note for note in report.notes)
    out = io.StringIO()
    render(report, Console(file=out, width=160))
    assert "Only weights are quantized" in out.getvalue()
    assert "Only the weight is quantized; multiplied in float" in out.getvalue()


@pytest.mark.parametrize(("level", "bits"), [(1, 4), (4, 4), (4, 8), (4, 2)])
def test_level_four_counts_where_the_kernel_really_rounds_its_activations(
    level: int, bits: int, tmp_path: Path
) -> None:
    path = packed(tmp_path / "m.onnx", level, bits)
    rounds = rounds_its_activations(path, level, bits)
    assert audit_model(path).weight_share == float(rounds)
    assert rounds == (level == 4 and bits > 2)


def test_groups_behind_quantized_activations_are_named(tmp_path: Path) -> None:
    body = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
    report = audit_model(packed(tmp_path / "m.onnx", 1, body=body))
    assert report.weight_share == 0
    ((finding,),) = [m.findings for m in report.unfused]
    assert finding.rule == "grouped-weight"
    assert "group of 16" in finding.reason


FP8_PAIR = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"
FP8_CASTS = "r = Div(x, s) c = Cast<to=17>(r) f = Cast<to=1>(c) d = Mul(f, s)"


@pytest.mark.parametrize("second", ["DequantizeLinear(codes, ws)", "Transpose<perm=[0, 2, 1]>(d)"])
@pytest.mark.parametrize("first", [FP8_PAIR, FP8_CASTS])
def test_fp8_is_called_simulated(first: str, second: str, tmp_path: Path) -> None:
    """The product of an activation in FP8 with a weight in FP8, or with itself."""
    proto = parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21]>
    g (float[N, 5, 8] x) => (float[N, 5, M] y) {{ {first} w = {second} y = MatMul(d, w) }}""")
    stored = {
        "s": helper.make_tensor("s", TensorProto.FLOAT, [], [0.01]),
        "z": helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [], [0.0]),
        "ws": helper.make_tensor("ws", TensorProto.FLOAT, [], [0.02]),
        "codes": helper.make_tensor("codes", TensorProto.FLOAT8E4M3FN, [8, 4], np.linspace(-9, 9, 32)),
    }
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(tensor for name, tensor in stored.items() if name in used)
    onnx.save(proto, tmp_path / "m.onnx")
    if first == FP8_PAIR:  # the optimizer fuses it into kernels that do not know FP8
        with pytest.raises(Exception, match="float8e4m3fn"):
            audit_model(tmp_path / "m.onnx")
        return
    report = audit_model(tmp_path / "m.onnx")
    assert report.weight_share == 0
    assert [[f.rule for f in m.findings] for m in report.unfused] == [["fp8-simulated"]]
    assert any("1 products are FP8 simulated" in note for note in report.notes)
