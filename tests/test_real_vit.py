"""The whole line on trained weights and real images, on fewer of them than the bars use."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.metrics import sqnr_db
from deploy.audit import audit_model
from deploy.onnxruntime.run import OrtRunner
from export.lower import lower
from export.onnx_export import export_float, export_qdq
from export.parity import check_parity
from export.settings import ExportSettings
from export.targets import get_target
from quant.calibrate import calibrate
from quant.data.batches import batches
from quant.data.config import SourceConfig
from quant.data.sources import open_source
from quant.graph import capture
from quant.models.config import ModelConfig
from quant.models.load import LoadedModel, load_model
from quant.recipe import load_recipe

CALIBRATION, VALIDATION = 48, 48


@pytest.fixture(scope="module")
def model(data_dir: Path) -> LoadedModel:
    weights = data_dir / "vit_tiny_patch16_224" / "model.safetensors"
    return load_model(ModelConfig(name="vit_tiny_patch16_224", weights=weights))


def images(data_dir: Path, split: str, model: LoadedModel, count: int) -> Tensor:
    config = SourceConfig(kind="csv", path=data_dir / "imagenet" / split / "labels.csv", shuffle_seed=0)
    found = batches(open_source(config), model.preprocessing, 16, limit=count)
    return torch.cat([batch.images for batch in found])


def test_vit_tiny_in_integers_stays_close_to_its_float_self(
    data_dir: Path, model: LoadedModel, tmp_path: Path
) -> None:
    learned = images(data_dir, "calibration", model, CALIBRATION)
    shown = images(data_dir, "validation", model, VALIDATION).numpy()
    graph, example, settings = capture(model.model, learned[:2]), learned[:2], ExportSettings(parity_images=8)
    recipe = load_recipe("int8")
    calibrated = calibrate(graph, recipe, lambda n: torch.split(learned[:n], 16))
    export_float(graph, example, tmp_path / "fp32.onnx", settings, {})
    export_qdq(calibrated, example, tmp_path / "qdq.onnx", settings, {})
    target, path = get_target("ort-x86"), tmp_path / "int8.onnx"
    report = lower(tmp_path / "qdq.onnx", calibrated, target, path, {})

    check_parity(calibrated, report, graph, path, target, learned, settings)  # raises when it fails
    logits = {}
    for name in ("fp32", "int8"):
        with OrtRunner(tmp_path / f"{name}.onnx") as runner:
            parts = [runner.infer({"input": part}) for part in np.split(shown, 6)]
        logits[name] = np.concatenate([next(iter(part.values())) for part in parts])

    # On all images it is 23 to 24 dB; naive min-max W8A8 stays at 10, and saturating kernels at 12.
    assert sqnr_db(logits["fp32"], logits["int8"]) >= 18.0
    assert (logits["fp32"].argmax(1) == logits["int8"].argmax(1)).mean() >= 0.9
    assert path.stat().st_size <= 0.27 * (tmp_path / "fp32.onnx").stat().st_size
    assert audit_model(path).weight_share >= 0.97
    (applied,) = (note for note in calibrated.notes if note.applied and note.layer == "blocks.7.mlp.fc2")
    assert "417" in applied.text  # the unit whose activation reaches 217 where the next is 6
