from pathlib import Path

import onnx
from onnx import parser

from deploy.audit import audit_model
from deploy.audit.leftovers import Category

HEAD = '<ir_version: 10, opset_import: ["" : 21]> g '
STORED = "<float s = {0.05}, uint8 z = {128}, float t = {0.1}"


def categories(tmp_path: Path, text: str) -> list[tuple[str, Category, bool]]:
    path = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(HEAD + text), path)
    return [(item.op, item.category, item.bad) for item in audit_model(path).leftovers]


def test_a_pair_around_a_float_operator_is_wasted(tmp_path: Path) -> None:
    found = categories(
        tmp_path,
        f"""(float[2, 4] x) => (float[2, 4] y) {STORED}>
        {{ q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  y = Tanh(d) }}""",
    )
    assert found == [
        ("QuantizeLinear", Category.PAIR, True),
        ("DequantizeLinear", Category.PAIR, True),
    ]


def test_the_border_of_an_integer_kernel_is_expected(tmp_path: Path) -> None:
    found = categories(
        tmp_path,
        f"""(float[2, 4] x) => (float[2, 4] y) {STORED}, uint8[4, 4] w = {{1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}}>
        {{ q = QuantizeLinear(x, s, z)  r = Reshape(q, k)
           m = QLinearMatMul(r, s, z, w, s, z, t, z)  y = DequantizeLinear(m, t, z) }}""".replace(
            "{ q = Q", "{ k = Constant<value_ints = [2, 4]>()  q = Q"
        ),
    )
    assert found == [
        ("QuantizeLinear", Category.FEEDS_INTEGER, False),
        ("DequantizeLinear", Category.FROM_INTEGER, False),
    ]


def test_quantized_model_inputs_and_outputs_are_expected(tmp_path: Path) -> None:
    found = categories(
        tmp_path,
        f"""(uint8[2, 4] x) => (uint8[2, 4] y) {STORED}>
        {{ d = DequantizeLinear(x, s, z)  h = Tanh(d)  y = QuantizeLinear(h, s, z) }}""",
    )
    assert {c for _, c, _ in found} == {Category.MODEL_EDGE}


def test_a_weight_and_a_bias_dequantized_at_run_time_are_wasted(tmp_path: Path) -> None:
    found = categories(
        tmp_path,
        f"""(float[2, 4] x) => (float[2, 4] y, float[2, 4] v) {STORED},
        int8[4] w = {{1,2,3,4}}, int8 zero = {{0}}, int32[4] b = {{1,2,3,4}}>
        {{ d = DequantizeLinear(w, s, zero)  y = Mul(x, d)
           e = DequantizeLinear(b, s)  v = Sub(x, e) }}""",
    )
    assert sorted(found) == [
        ("DequantizeLinear", Category.BIAS, True),
        ("DequantizeLinear", Category.WEIGHT, True),
    ]


def test_changing_the_scale_between_two_integer_kernels_is_wasted(tmp_path: Path) -> None:
    matmul = "QLinearMatMul({0}, s, z, w, s, z, s, z)"
    found = categories(
        tmp_path,
        f"""(uint8[4, 4] x) => (uint8[4, 4] y) {STORED}, uint8[4, 4] w = {{1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}}>
        {{ a = {matmul.format("x")}  d = DequantizeLinear(a, s, z)  q = QuantizeLinear(d, t, z)
           y = {matmul.format("q")} }}""",
    )
    assert {c for _, c, _ in found} == {Category.REQUANTIZED}
