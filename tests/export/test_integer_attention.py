"""Attention in integers only where TensorRT has a kernel for it; elsewhere no pair is in the file."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch

from deploy.tensorrt.build import EngineSettings, build_plan, check_file
from deploy.tensorrt.library import Library
from export.lower import LoweringReport, lower
from export.onnx_export import export_qdq
from export.parity import check_parity
from export.settings import ExportSettings
from export.targets import get_target
from quant.recipe import load_recipe
from tests.export.small_models import calibrated_of, images_of

ATTENTION = ("qk", "pv")


def lowered(
    folder: Path, name: str = "int8_attention", target: str = "tensorrt", **sizes: Any
) -> tuple[LoweringReport, onnx.ModelProto]:
    torch.manual_seed(0)
    options = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 48, "num_heads": 3} | sizes
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, **options)
    images = images_of(8, 3, options["img_size"], options["img_size"])
    graph, calibrated = calibrated_of(model, images, load_recipe(name))
    settings = ExportSettings(parity_images=8)
    export_qdq(calibrated, images[:2], folder / "qdq.onnx", settings, {})
    path, where = folder / "m.onnx", get_target(target)
    report = lower(folder / "qdq.onnx", calibrated, where, path, {})
    check_parity(
        calibrated, report, graph, path, where, images, settings
    )  # raises where it is another function
    return report, onnx.load(path)


def quantized_attention(model: onnx.ModelProto) -> int:
    """How many QuantizeLinear nodes feed attention products."""
    return sum(
        node.op_type == "QuantizeLinear" and node.input[1].split(".")[-3] in ATTENTION
        for node in model.graph.node
    )


def test_heads_that_have_a_kernel_are_multiplied_in_integers(tmp_path: Path, rtx: Library) -> None:
    report, model = lowered(tmp_path)
    assert quantized_attention(model) == 4, "q, k, v and the softmax"
    assert not [note for note in report.notes if note.graph_pass == "integer_attention"]
    scales = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    assert 0 < scales["blocks.0.attn.pv.a.scale"] <= np.float16(1 / 127), "a softmax lies in [0, 1]"
    check_file(tmp_path / "m.onnx")
    assert build_plan(tmp_path / "m.onnx", EngineSettings(compute=("SM89",)), rtx)[0]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"embed_dim": 36}, "heads of 12 channels; integer kernels take 16, 32, 64"),
        ({"img_size": 96, "patch_size": 4}, "577 tokens; integer kernels take up to 512"),
    ],
)
def test_other_attention_stays_float_as_a_whole_and_says_why(
    sizes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    report, model = lowered(tmp_path, **sizes)
    assert quantized_attention(model) == 0
    notes = [note for note in report.notes if note.graph_pass == "integer_attention"]
    assert {note.node for note in notes} == {"blocks.0.attn.qk", "blocks.0.attn.pv"}
    assert all(said in note.text and not note.applied for note in notes)
    assert not [name for name in report.frozen if ".qk." in name or ".pv." in name]


def test_other_targets_and_formats_have_no_such_limit(tmp_path: Path) -> None:
    assert quantized_attention(lowered(tmp_path, target="ort-x86", embed_dim=36)[1]) == 4
    assert quantized_attention(lowered(tmp_path, name="fp8", embed_dim=36)[1]) == 4
