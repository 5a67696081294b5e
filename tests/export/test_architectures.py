"""Every architecture that Octavo promises goes through calibration, export, all targets, parity, audit and
the builder of TensorRT-RTX."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import timm
import torch
from torch import Tensor, nn

from deploy.audit import audit_model
from deploy.audit.macs import Kind
from deploy.tensorrt.build import EngineSettings, build_plan, check_file
from deploy.tensorrt.library import Library
from deploy.tensorrt.rules.graph import Graph
from deploy.tensorrt.weak_typing import check_weakly_typed
from export.lower import lower
from export.onnx_export import export_qdq
from export.parity import check_parity
from export.settings import ExportSettings
from export.targets import TARGETS
from quant.calibrate import calibrate
from quant.graph import capture
from quant.recipe import Recipe, load_recipe
from tests.deploy.tensorrt.fake_trt8 import tensorrt8

VIT: dict[str, Any] = {"img_size": 64, "depth": 1, "embed_dim": 96}
MODELS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": VIT,
    "deit_tiny_distilled_patch16_224": VIT,
    "swin_tiny_patch4_window7_224": {"img_size": 32, "window_size": 4, "depths": (2, 1), "embed_dim": 24}
    | {"num_heads": (3, 6)},
    "convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (16, 24, 32, 48)},
    "resnet18": {"layers": (1, 1, 1, 1), "channels": (16, 24, 32, 48)},
    "mobilenetv3_small_050": {},
    "test_efficientnet": {},
}


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=10, **MODELS[name]).eval()
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # unit statistics would hide a wrong fold
            assert isinstance(module.running_mean, Tensor)
            assert isinstance(module.running_var, Tensor)
            module.running_mean.normal_(std=0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model


def quick_recipe() -> Recipe:
    """The shipped recipe with the fastest observer: how ranges are found is tested elsewhere."""
    recipe = load_recipe("int8")
    change = {"observer": "minmax", "observer_options": {}}
    specs = {name: spec.model_copy(update=change) for name, spec in recipe.specs.items()}
    return recipe.model_copy(update={"specs": specs})


@pytest.mark.parametrize("name", MODELS)
def test_an_architecture_reaches_every_target(name: str, rtx: Library, tmp_path: Path) -> None:
    size = MODELS[name].get("img_size", 64)
    model = model_of(name)
    images = torch.randn(16, 3, size, size, generator=torch.Generator().manual_seed(2))
    graph = capture(model, images[:2])
    with torch.no_grad():  # float32 summation order
        torch.testing.assert_close(graph(images), model(images), rtol=0, atol=1e-4)
    calibrated = calibrate(graph, quick_recipe(), lambda n: torch.split(images[:n], 8))
    qdq = tmp_path / "qdq.onnx"
    settings = ExportSettings(parity_images=16)
    note = export_qdq(calibrated, images[:2], qdq, settings, {}).simplify
    assert note is not None
    assert note.used, note.reason
    for target in TARGETS.values():
        path = tmp_path / f"{target.name}.onnx"
        report = lower(qdq, calibrated, target, path, {})
        onnx.checker.check_model(onnx.load(path), full_check=True)
        # raises if the file does not compute what the fake-quant model computes
        parity = check_parity(calibrated, report, graph, path, target, images, settings)
        assert len({layer.layer for layer in parity.layers}) == len(calibrated.weight_sites())
    for of_tensorrt in ("tensorrt", "tensorrt8"):
        path = tmp_path / f"{of_tensorrt}.onnx"
        check_file(path)
        assert build_plan(path, EngineSettings(compute=("SM89",)), rtx)[0]
    check_weakly_typed(Graph(onnx.load(path)), path.name, tensorrt8("8.6.1.6")[0])
    audit = audit_model(tmp_path / "ort-x86.onnx")
    weighted = [m for m in audit.multiplications if m.kind is not Kind.ACTIVATION]
    integer = sum(m.macs for m in weighted if m.integer)
    assert integer >= 0.97 * sum(m.macs for m in weighted), audit.unfused
