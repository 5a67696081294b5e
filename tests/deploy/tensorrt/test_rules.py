"""What TensorRT does not take is refused by name, and its real builder refuses it, too."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from deploy.tensorrt.build import EngineSettings, build_plan
from deploy.tensorrt.library import Library
from deploy.tensorrt.rules import RULES, check_model, violations
from quant.errors import Unsupported

FLOAT, INT8, UINT8 = TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8


class Product:
    """A linear layer [2, 32] → [2, 16] with Q/DQ pairs whose parts can be changed."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.constants = {
            "x.scale": np.float32(0.1),
            "x.zero": np.int8(0),
            "w.codes": generator.integers(-100, 100, (32, 16)).astype(np.int8),
            "w.scale": np.full(16, 0.01, np.float32),
            "w.zero": np.zeros(16, np.int8),
        }
        self.axis = 1
        self.quantize = ["x", "x.scale", "x.zero"]
        self.dequantize = ["x.codes", "x.scale", "x.zero"]
        self.product = helper.make_node("MatMul", ["x.back", "w"], ["y"], name="fc/MatMul")
        self.more: list[onnx.NodeProto] = []
        self.opset = 21

    def model(self) -> ModelProto:
        nodes = [
            helper.make_node("QuantizeLinear", self.quantize, ["x.codes"], name="fc/QuantizeLinear"),
            helper.make_node("DequantizeLinear", self.dequantize, ["x.back"], name="fc/DequantizeLinear"),
            helper.make_node(
                *("DequantizeLinear", ["w.codes", "w.scale", "w.zero"], ["w"]),
                name="fc/Weight",
                axis=self.axis,
            ),
            *self.more,
            self.product,
        ]
        graph = helper.make_graph(
            nodes,
            "linear",
            [helper.make_tensor_value_info("x", FLOAT, [2, 32])],
            [helper.make_tensor_value_info("y", FLOAT, None)],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)


def refused(library: Library, model: ModelProto, folder: Path) -> bool:
    path = folder / "m.onnx"
    onnx.save(model, path)
    try:
        build_plan(path, EngineSettings(compute=("SM89",)), library)  # the oldest with FP8
    except Unsupported:
        return True
    return False


def activation_zero_point(p: Product) -> None:
    p.constants["x.zero"] = np.int8(3)


def weight_zero_point(p: Product) -> None:
    p.constants["w.zero"] = np.r_[np.zeros(15, np.int8), np.int8(1)].astype(np.int8)


def unsigned_with_offset(p: Product) -> None:
    p.constants["x.zero"] = np.uint8(128)


def unsigned_weights(p: Product) -> None:
    p.constants["w.codes"] = p.constants["w.codes"].astype(np.uint8)
    p.constants["w.zero"] = np.zeros(16, np.uint8)


def zero_scale(p: Product) -> None:
    p.constants["w.scale"] = np.r_[np.full(15, 0.01), 0.0].astype(np.float32)


def negative_scale(p: Product) -> None:
    p.constants["x.scale"] = np.float32(-0.1)


def int32_bias(p: Product) -> None:
    p.constants |= {"b.codes": np.arange(16, dtype=np.int32), "b.scale": np.full(16, 0.001, np.float32)}
    p.more = [helper.make_node("DequantizeLinear", ["b.codes", "b.scale"], ["b"], name="fc/Bias", axis=0)]
    p.product = helper.make_node("Gemm", ["x.back", "w", "b"], ["y"], name="fc/Gemm")


def sixteen_bits(p: Product) -> None:
    p.constants["x.zero"] = np.int16(0)


def integer_product(p: Product) -> None:
    p.product = helper.make_node("MatMulInteger", ["x.codes", "w.codes"], ["y"], name="fc/MatMul")


def another_runtimes_operator(p: Product) -> None:
    p.product = helper.make_node("FastGelu", ["x.back"], ["y"], name="act/FastGelu", domain="com.microsoft")


REFUSED = [
    (activation_zero_point, "zero-point", "'fc': its zero point is 3, not 0"),
    (weight_zero_point, "zero-point", "its zero point is 1"),
    (unsigned_with_offset, "zero-point", "its zero point is 128"),
    (unsigned_weights, "code-type", "its codes are uint8"),
    (zero_scale, "scale", "its scale is 0"),
    (negative_scale, "scale", "its scale is -0.1"),
    (int32_bias, "code-type", "a bias is stored in int32 codes"),
    (sixteen_bits, "code-type", "its codes are int16"),
    (integer_product, "operator", "the operator MatMulInteger is not read"),
    (another_runtimes_operator, "operator", "'act': the operator com.microsoft::FastGelu"),
]


@pytest.mark.parametrize(("change", "rule", "said"), REFUSED, ids=[c.__name__ for c, *_ in REFUSED])
def test_what_the_builder_refuses_is_refused_by_name_first(
    change: Callable[[Product], None], rule: str, said: str, rtx: Library, tmp_path: Path
) -> None:
    product = Product()
    change(product)
    model = product.model()
    assert rule in {found.rule for found in violations(model)}
    with pytest.raises(Unsupported) as error:
        check_model(model, "m.onnx")
    assert said in str(error.value)
    assert refused(rtx, model, tmp_path), "TensorRT takes it after all: the rule is wrong"


def test_what_keeps_the_rules_is_built(rtx: Library, tmp_path: Path) -> None:
    model = Product().model()
    assert list(violations(model)) == []
    assert not refused(rtx, model, tmp_path)


def unsigned(p: Product) -> None:
    p.constants["x.zero"] = np.uint8(0)


def unsigned_by_default(p: Product) -> None:
    p.quantize, p.dequantize = p.quantize[:2], p.dequantize[:2]


@pytest.mark.parametrize("change", [unsigned, unsigned_by_default])
def test_unsigned_activations_are_refused_though_the_builder_takes_them_for_signed(
    change: Callable[[Product], None],
) -> None:
    product = Product()
    change(product)
    with pytest.raises(Unsupported, match="uint8, which would be read as int8"):
        check_model(product.model(), "m.onnx")


def test_an_axis_that_the_builder_would_cut_to_32_bits_is_refused(rtx: Library, tmp_path: Path) -> None:
    product = Product()
    product.axis = 2**32 + 1
    model = product.model()
    with pytest.raises(Unsupported, match="'fc': the attribute 'axis' is 4294967297, which would be read as"):
        check_model(model, "m.onnx")
    assert not refused(rtx, model, tmp_path), "it is refused by the builder now: the rule is not needed"


def test_a_file_too_old_is_told_once() -> None:
    product = Product()
    product.opset = 8
    found = [one.rule for one in violations(product.model())]
    assert found.count("oldest-opset") == 1


def test_activations_have_one_scale() -> None:
    product = Product()
    product.constants |= {"x.scale": np.full(32, 0.1, np.float32), "x.zero": np.zeros(32, np.int8)}
    with pytest.raises(Unsupported, match="'fc': an activation has 32 scales; use granularity: per_tensor"):
        check_model(product.model(), "m.onnx")


def test_weights_may_be_quantized_in_the_file_too() -> None:
    product = Product()
    product.constants["w.float"] = np.ones((32, 16), np.float32)
    del product.constants["w.codes"]
    product.more = []
    model = product.model()
    model.graph.node.insert(
        0,
        helper.make_node(
            "QuantizeLinear", ["w.float", "w.scale", "w.zero"], ["w.codes"], name="fc/WeightQuantize", axis=1
        ),
    )
    assert list(violations(model)) == []


def test_each_format_needs_the_opset_that_brought_it() -> None:
    product = Product()
    product.opset = 12
    assert {found.rule for found in violations(product.model())} == {"opset"}
    half = Product()
    half.constants |= {"x.scale": np.float16(0.1), "w.scale": np.full(16, 0.01, np.float16)}
    half.opset = 17
    with pytest.raises(Unsupported, match="its format needs opset 19, the file has 17"):
        check_model(half.model(), "m.onnx")


def written_as(model: ModelProto, name: str, kind: int) -> None:
    """Give a constant another type, every value 1, every zero point 0."""
    tensor = next(i for i in model.graph.initializer if i.name == name)
    dims = list(tensor.dims)
    value = 0.0 if name.endswith("zero") else 1.0
    tensor.CopyFrom(helper.make_tensor(name, kind, dims, [value] * int(np.prod(dims))))


@pytest.mark.parametrize(
    ("activation", "weight", "taken"),
    [
        ("INT8", "INT8", True),
        ("INT8", "INT4", True),
        ("FLOAT8E4M3FN", "FLOAT8E4M3FN", True),
        ("FLOAT8E4M3FN", "INT8", False),
        ("INT8", "FLOAT8E4M3FN", False),
        ("FLOAT8E4M3FN", "INT4", False),
        (None, "FLOAT8E4M3FN", True),
        (None, "INT4", True),
    ],
)
def test_the_factors_of_a_product_have_one_type(
    activation: str | None, weight: str, taken: bool, rtx: Library, tmp_path: Path
) -> None:
    product = Product()
    if activation is None:
        product.product.input[0] = "x"
    model = product.model()
    written_as(model, "x.zero", getattr(TensorProto, activation or "INT8"))
    for name in ("w.zero", "w.codes"):
        written_as(model, name, getattr(TensorProto, weight))
    assert (list(violations(model)) == []) is taken
    assert refused(rtx, model, tmp_path) is not taken
    if not taken:
        with pytest.raises(
            Unsupported, match=r"'fc': .* meets .* in a MatMul; write both factors in one type"
        ):
            check_model(model, "m.onnx")


def test_the_first_place_is_named_and_the_others_counted() -> None:
    product = Product()
    product.constants |= {"x.zero": np.int8(3), "w.scale": np.zeros(16, np.float32)}
    with pytest.raises(Unsupported, match=r"m\.onnx: TensorRT does not take 'fc': .*\(and 2 more places\)"):
        check_model(product.model(), "m.onnx")
    assert {"zero-point", "code-type", "scale", "operator"} <= set(RULES)
