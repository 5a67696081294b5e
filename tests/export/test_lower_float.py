"""The float model for a target: the same function in another graph, or a copy."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export import lower_float as module
from export.lower_float import lower_float
from export.onnx_export import export_float
from export.settings import ExportSettings
from export.targets import get_target
from quant.errors import BadInput, InternalError, Unsupported
from quant.graph import capture
from tests.quant.methods.small_vit import SmallVit, images, small_vit


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "model.onnx"
    x = images(2)
    export_float(capture(small_vit(), x, True), x, path, ExportSettings(), {"octavo.model": "small"})
    return path


def test_attention_is_one_operator_and_the_outputs_are_those_of_torch(plain: Path, tmp_path: Path) -> None:
    x = images(5, seed=2)
    report = lower_float(plain, get_target("ort-x86"), tmp_path / "m.onnx", x.numpy())
    assert report.changed
    assert report.difference < 1e-5
    model = onnx.load(tmp_path / "m.onnx")
    assert [n.op_type for n in model.graph.node].count("Attention") == 1
    assert {(p.key, p.value) for p in model.metadata_props} >= {
        ("octavo.model", "small"),
        ("octavo.target", "ort-x86"),
    }
    with torch.no_grad():
        expected = small_vit()(x).numpy()
    with module.OrtRunner(tmp_path / "m.onnx") as runner:
        # float32 in another library, optimized
        np.testing.assert_allclose(
            runner.infer({"input": x.numpy()})["output"], expected, rtol=1e-3, atol=1e-3
        )
    again = tmp_path / "again.onnx"
    lower_float(plain, get_target("ort-x86"), again, x.numpy())
    assert again.read_bytes() == (tmp_path / "m.onnx").read_bytes()
    assert report.to_dict()["notes"][0]["pass"] == "fuse_attention"


def test_a_target_without_a_graph_of_its_own_gets_a_copy(plain: Path, tmp_path: Path) -> None:
    report = lower_float(plain, get_target("ort-arm64"), tmp_path / "m.onnx", images(2).numpy())
    assert not report.changed
    assert (tmp_path / "m.onnx").read_bytes() == plain.read_bytes()


def test_tensorrt_gets_float16_that_computes_the_same(plain: Path, tmp_path: Path) -> None:
    x = images(5, seed=2)
    report = lower_float(plain, get_target("tensorrt"), tmp_path / "m.onnx", x.numpy())
    assert report.changed
    assert 0 < report.difference < 5e-3
    model = onnx.load(tmp_path / "m.onnx")
    types = {t.data_type for t in model.graph.initializer}
    assert onnx.TensorProto.FLOAT16 in types
    assert onnx.TensorProto.FLOAT not in types
    (output,) = model.graph.output
    assert output.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_tensorrt8_gets_float32_in_opset_17(plain: Path, tmp_path: Path) -> None:
    report = lower_float(plain, get_target("tensorrt8"), tmp_path / "m.onnx", images(5, seed=2).numpy())
    assert report.changed
    assert report.difference < 1e-5
    model = onnx.load(tmp_path / "m.onnx")
    assert model.opset_import[0].version == 17
    assert onnx.TensorProto.FLOAT16 not in {t.data_type for t in model.graph.initializer}
    assert "opset 20 written as 17" in report.to_dict()["notes"][0]["text"]


def test_a_layer_that_overflows_float16_is_named(tmp_path: Path) -> None:
    x = images(2)
    model = SmallVit().eval()
    with torch.no_grad():
        model.block.fc1.weight.mul_(1e6)
    plain = tmp_path / "plain.onnx"
    export_float(capture(model, x, True), x, plain, ExportSettings(), {})
    with pytest.raises(Unsupported, match=r"'block\.fc1' is the first to go beyond ±65504"):
        lower_float(plain, get_target("tensorrt"), tmp_path / "m.onnx", x.numpy())


def test_another_function_is_our_error(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(InternalError, match="differs from the plain model's"):
        lower_float(plain, get_target("ort-x86"), tmp_path / "m.onnx", images(2).numpy())


def test_what_is_no_model_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "plain.onnx").write_bytes(b"no model")
    with pytest.raises(BadInput, match=r"plain\.onnx"):
        lower_float(tmp_path / "plain.onnx", get_target("ort-x86"), tmp_path / "m.onnx", images(2).numpy())
