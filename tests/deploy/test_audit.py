"""The audit on whole models, made by other tools, against PyTorch's own operation counter."""

import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from deploy.audit import audit_model, render
from deploy.audit.macs import Kind
from quant.errors import BadInput, Unsupported


class Images(CalibrationDataReader):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.batches = iter([{"input": rng.standard_normal((1, 3, 64, 64)).astype(np.float32)}] * 2)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


class Residual(torch.nn.Module):
    """A stem, a residual block whose input feeds two convolutions, a depthwise convolution and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.conv1 = torch.nn.Conv2d(16, 24, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.shortcut = torch.nn.Conv2d(16, 24, 1)
        self.fc = torch.nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        x = (self.conv2(self.conv1(x).relu()) + self.shortcut(x)).relu()
        return self.fc(x.mean((2, 3)))


def export(model: torch.nn.Module, path: Path, dynamic: bool) -> Path:
    batch = {"dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},)} if dynamic else {}
    example = torch.zeros(2 if dynamic else 1, 3, 64, 64)
    torch.onnx.export(
        model, (example,), str(path), dynamo=True, external_data=False, verbose=False,
        opset_version=18, input_names=["input"], output_names=["logits"], **batch,
    )  # fmt: skip
    return path


def vit() -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=64, num_classes=10).eval()
    for block in model.blocks:
        block.attn.fused_attn = False
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def vit_static(folder: Path) -> Path:
    return export(vit(), folder / "vit_static.onnx", dynamic=False)


@pytest.fixture(scope="module")
def vit_dynamic(folder: Path) -> Path:
    return export(vit(), folder / "vit_dynamic.onnx", dynamic=True)


@pytest.fixture(scope="module")
def cnn(folder: Path) -> Path:
    torch.manual_seed(0)
    return export(Residual().eval(), folder / "cnn.onnx", dynamic=False)


def quantize(
    model: Path, act: QuantType, fmt: QuantFormat = QuantFormat.QDQ, weights_only_ops: bool = False
) -> Path:
    """Quantize with ONNX Runtime; ``weights_only_ops`` puts Q/DQ on inputs of linears and nowhere else."""
    path = model.with_name(f"{model.stem}_{act.name}_{fmt.name}_{weights_only_ops}.onnx")
    options = {"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]}
    graph = onnx.load(model).graph
    stored = {t.name for t in graph.initializer}
    attention = [n.name for n in graph.node if n.op_type == "MatMul" and n.input[1] not in stored]
    quantize_static(
        str(model), str(path), Images(), quant_format=fmt, activation_type=act, weight_type=QuantType.QInt8,
        per_channel=True, op_types_to_quantize=["MatMul", "Gemm", "Conv"] if weights_only_ops else None,
        nodes_to_exclude=attention if weights_only_ops else None,
        extra_options=options if weights_only_ops else {},
    )  # fmt: skip
    return path


def macs_by_torch(model: torch.nn.Module) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    return counter.get_total_flops() // 2


def test_a_float_vit_has_zero_coverage_and_the_macs_pytorch_counts(
    vit_static: Path, vit_dynamic: Path
) -> None:
    for path in (vit_static, vit_dynamic):
        report = audit_model(path)
        assert (report.weight_share, report.total_share) == (0, 0)
        assert report.macs() == macs_by_torch(vit())
        assert not report.unfused
        assert not report.leftovers
        assert "blocks.0.attn.qkv" in {m.module for m in report.left_float}
        tokens, width = 17, 192
        assert report.macs(Kind.ACTIVATION) == 2 * tokens * tokens * width


def test_the_float_cnn_has_the_macs_pytorch_counts(cnn: Path) -> None:
    assert audit_model(cnn).macs() == macs_by_torch(Residual().eval())


def test_a_static_batch_breaks_the_linears_of_a_qdq_vit(vit_static: Path) -> None:
    report = audit_model(quantize(vit_static, QuantType.QUInt8, weights_only_ops=True))
    broken = {m.module: [f.rule for f in m.findings] for m in report.unfused}
    linears = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert broken == {f"blocks.0.{name}": ["matmul-add-fusion"] for name in linears}
    per_block = 17 * 192 * (576 + 192 + 768 + 768)
    assert report.macs(Kind.LINEAR, integer=False) == per_block
    wasted = {str(item.category) for item in report.bad_leftovers}
    assert "weight dequantized at run time" in wasted


def test_the_same_file_fuses_without_the_optimizer_that_breaks_it(vit_static: Path) -> None:
    path = quantize(vit_static, QuantType.QUInt8, weights_only_ops=True)
    report = audit_model(path, disabled_optimizers=("MatMulAddFusion",))
    assert report.weight_share == 1
    assert not report.unfused


def test_a_dynamic_batch_does_not(vit_dynamic: Path) -> None:
    report = audit_model(quantize(vit_dynamic, QuantType.QUInt8, weights_only_ops=True))
    assert report.weight_share == 1
    assert not report.unfused
    assert {m.kind for m in report.left_float} == {Kind.ACTIVATION}
    assert report.total_share == pytest.approx(1 - report.macs(Kind.ACTIVATION) / report.macs())


def test_signed_activations_break_convolutions_that_share_an_input_on_x86_only(cnn: Path) -> None:
    path = quantize(cnn, QuantType.QInt8)
    x86, arm = audit_model(path), audit_model(path, "ort-arm64")
    assert {f.rule for m in x86.unfused for f in m.findings} >= {"s8-activation-shared"}
    assert {"conv1", "shortcut"} <= {m.module for m in x86.unfused}
    assert x86.weight_share < 1
    assert all(m.findings for m in x86.unfused)
    assert not {f.rule for m in arm.unfused for f in m.findings} & {"s8-activation-shared"}


@pytest.mark.parametrize("fmt", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_unsigned_static_quantization_covers_everything_in_both_formats(cnn: Path, fmt: QuantFormat) -> None:
    report = audit_model(quantize(cnn, QuantType.QUInt8, fmt))
    assert report.weight_share == 1
    assert report.macs() == audit_model(cnn).macs()


def test_dynamic_quantization_is_integer_and_expected(cnn: Path) -> None:
    path = cnn.with_name("dynamic.onnx")
    model = onnx.load(cnn)
    del model.graph.value_info[:]  # the quantizer's shape inference trips over the exporter's entries
    quantize_dynamic(model, str(path), weight_type=QuantType.QInt8)
    report = audit_model(path)
    assert report.weight_share == 1
    assert {str(item.category) for item in report.leftovers} == {"quantized at run time by design"}


def test_the_report_becomes_json_and_text(vit_static: Path) -> None:
    report = audit_model(quantize(vit_static, QuantType.QUInt8, weights_only_ops=True))
    data = json.loads(json.dumps(report.to_dict()))
    assert data["weight_share"] == report.weight_share
    assert data["unfused"] == 4
    assert {m["kind"] for m in data["multiplications"]} == {"linear", "conv", "activation"}

    out = io.StringIO()
    render(report, Console(file=out, width=160))
    text = out.getvalue()
    assert f"{report.weight_share:.1%}" in text
    assert "blocks.0.mlp.fc2" in text
    assert "matmul-add-fusion (4×)" in text
    assert "disabled_optimizers=['MatMulAddFusion']" in text
    assert "activation × activation" in text


def test_unnamed_nodes_and_a_missing_shape(tmp_path: Path) -> None:
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    g (float[N, C, H, W] input) => (float[N, C, H, V] y) <float[4, 2] w = {1,2,3,4,5,6,7,8}>
    { y = MatMul(input, w) }
    """
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    with pytest.raises(BadInput, match=r"\[N, C, H, W\].*--shape input=1x3x224x224"):
        audit_model(path)
    assert audit_model(path, input_shapes={"input": (1, 2, 3, 4)}).macs() == 2 * 3 * 4 * 2
    with pytest.raises(BadInput, match="image"):
        audit_model(path, input_shapes={"image": (1, 2, 3, 4)})
    with pytest.raises(BadInput, match=r"1x2.*does not fit.*\[N, C, H, W\]"):
        audit_model(path, input_shapes={"input": (1, 2)})


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_bad_input_with_its_path(cnn: Path, tmp_path: Path, keep: float) -> None:
    content = cnn.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(BadInput, match=r"cut\.onnx"):
        audit_model(path)
    assert list(tmp_path.iterdir()) == [path]


def test_weights_beside_the_model_are_read_and_missed(
    cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inline = quantize(cnn, QuantType.QUInt8)
    beside = tmp_path / "beside.onnx"
    onnx.save(onnx.load(inline), beside, save_as_external_data=True, location="beside.bin", size_threshold=0)
    monkeypatch.setattr("deploy.audit.execute._INLINE_LIMIT", 1000)  # as for a model above 1 GiB
    left, right = audit_model(inline), audit_model(beside)
    assert left.multiplications == right.multiplications
    assert left.saturation == right.saturation
    (tmp_path / "beside.bin").unlink()
    with pytest.raises(BadInput, match=r"beside\.onnx.*beside\.bin"):
        audit_model(beside)


def test_unknown_targets_and_missing_files_are_refused(cnn: Path) -> None:
    with pytest.raises(Unsupported, match=r"tensorrt.*ort-x86, ort-arm64"):
        audit_model(cnn, "tensorrt")
    with pytest.raises(BadInput, match=r"absent\.onnx"):
        audit_model(cnn.with_name("absent.onnx"))
