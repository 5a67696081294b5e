"""The parity check passes what is right, and names the layer of what is not."""

import io
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from rich.console import Console
from torch import Tensor, nn

from deploy.cpu import has_vnni
from export.lower import LoweringReport, lower
from export.onnx_export import export_qdq
from export.parity import ParityReport, check_parity
from export.settings import ExportSettings
from export.targets import TARGETS, get_target
from quant.errors import Unsupported
from tests.export.small_models import Served, calibrated_of, images_of, simple_recipe

SETTINGS = ExportSettings(parity_images=16)
WARN = ExportSettings(parity_images=16, parity="warn")


def lowered(served: Served, target: str, folder: Path, guard: str = "auto") -> tuple[Path, LoweringReport]:
    path = folder / f"{target}.onnx"
    return path, lower(served.qdq, served.calibrated, get_target(target), path, {}, guard)


def check(
    served: Served, path: Path, report: LoweringReport, settings: ExportSettings = SETTINGS
) -> ParityReport:
    target = get_target(report.target)
    return check_parity(served.calibrated, report, served.graph, path, target, served.images, settings)


def served_from(model: nn.Module, images: Tensor, folder: Path) -> Served:
    graph, calibrated = calibrated_of(model, images, simple_recipe())
    export_qdq(calibrated, images[:2], folder / "qdq.onnx", ExportSettings(), {})
    return Served(images, graph, calibrated, folder / "qdq.onnx")


def tamper(path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    model = onnx.load(path)
    tensor = next(i for i in model.graph.initializer if i.name == name)
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(array.copy()).astype(array.dtype), name))
    onnx.save(model, path)


def one_row_doubled(codes: np.ndarray) -> np.ndarray:
    """One output channel of codes stored [I, O]."""
    codes[:, 1] = np.clip(codes[:, 1].astype(int) // 2, -127, 127)
    return codes


@pytest.mark.parametrize("kind", ["vit", "cnn"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_correct_model_passes(
    target: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    served: Served = request.getfixturevalue(kind)
    report = check(served, *lowered(served, target, tmp_path))
    runs = ["off", "all"] if get_target(target).runs_here else ["off"]
    assert [mode.mode for mode in report.end_to_end] == runs
    assert bool(report.note) == (len(runs) == 1)
    assert len(report.layers) == len(runs) * len(served.calibrated.weight_sites())
    assert (report.images, report.layer_images) == (16, 8)
    assert all(layer.inputs > 0 and layer.outputs > 0 for layer in report.layers)


TAMPERED: list[tuple[str, Any, str]] = [
    ("blocks.0.mlp.fc1.weight.codes", one_row_doubled, "blocks.0.mlp.fc1"),
    ("blocks.0.attn.proj.weight.scale", lambda s: s * 1.05, "blocks.0.attn.proj"),
    ("blocks.0.attn.qkv.input.scale", lambda s: s * 1.02, "blocks.0.attn.qkv"),
    ("blocks.0.mlp.fc2.input.zero_point", lambda z: z + 1, "blocks.0.mlp.fc2"),
    ("patch_embed.proj.weight.scale", lambda s: s * 1.05, "patch_embed.proj"),
    ("patch_embed.proj.bias", lambda b: b + 0.1, "patch_embed.proj"),
]


@pytest.mark.parametrize(("name", "change", "layer"), TAMPERED, ids=[case[0] for case in TAMPERED])
def test_a_wrong_constant_fails_and_names_its_layer(
    name: str, change: Any, layer: str, vit: Served, tmp_path: Path
) -> None:
    path, report = lowered(vit, "ort-x86", tmp_path)
    tamper(path, name, change)
    with pytest.raises(Unsupported, match=rf"ort-x86: .*first in layer '{layer}' \(optimizations off\)"):
        check(vit, path, report)


def test_an_output_that_is_not_a_number_fails(vit: Served, tmp_path: Path) -> None:
    path, report = lowered(vit, "ort-x86", tmp_path)
    tamper(path, "patch_embed.proj.bias", lambda b: b * np.float32("nan"))
    with pytest.raises(Unsupported, match=r"first in layer 'patch_embed\.proj'"):
        check(vit, path, report)


def test_half_targets_are_held_to_it_too(vit: Served, tmp_path: Path) -> None:
    path, report = lowered(vit, "tensorrt", tmp_path)
    tamper(path, "blocks.0.mlp.fc1.weight.codes", one_row_doubled)
    with pytest.raises(Unsupported, match=r"tensorrt: .*first in layer 'blocks\.0\.mlp\.fc1'"):
        check(vit, path, report)


def test_a_fault_outside_the_quantized_layers_fails_end_to_end(vit: Served, tmp_path: Path) -> None:
    path, report = lowered(vit, "ort-x86", tmp_path)
    tamper(path, "norm.weight", lambda w: -w)
    with pytest.raises(Unsupported, match=r"agrees with the fake-quant model to only -?\d.* dB; required"):
        check(vit, path, report)


def test_a_warning_does_not_stop(vit: Served, tmp_path: Path) -> None:
    path, report = lowered(vit, "ort-x86", tmp_path)
    tamper(path, *TAMPERED[0][:2])
    result = check(vit, path, report, WARN)
    assert result.failure is not None
    assert "blocks.0.mlp.fc1" in result.failure
    assert result.first_fault is not None
    assert result.first_fault.layer == "blocks.0.mlp.fc1"


class Saturating(nn.Module):
    """Equal weights on large inputs: neighbouring products reach 255 · (127 + 127) > 32767."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.calm, self.loud = nn.Linear(32, 32), nn.Linear(32, 16)
        nn.init.constant_(self.loud.weight, 0.1)
        signs = torch.tensor([1.0, -1.0]).repeat(16)  # products of opposite sign cannot overflow
        self.calm.weight.data = self.calm.weight.data.abs() * signs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.loud(self.calm(x).abs() + 5)
        return y


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="u8 × s8 saturates on x86 only")
@pytest.mark.skipif(has_vnni(), reason="this CPU has VNNI, whose sums do not saturate")
def test_without_vnni_the_guard_is_needed_and_suffices(tmp_path: Path) -> None:
    served = served_from(Saturating(), images_of(16, 32), tmp_path)
    with pytest.raises(Unsupported, match=r"layer 'loud' \(optimizations all\).*saturation_guard: on"):
        check(served, *lowered(served, "ort-x86", tmp_path, "off"))
    for guard in ("on", "seven_bits"):
        check(served, *lowered(served, "ort-x86", tmp_path, guard))


class Twice(nn.Module):
    """One layer called twice: one weight, two inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(3 * self.fc(x).relu())
        return y


def test_a_layer_called_twice_is_compared_twice(tmp_path: Path) -> None:
    served = served_from(Twice(), images_of(16, 24), tmp_path)
    path, report = lowered(served, "ort-x86", tmp_path)
    result = check(served, path, report)
    assert [layer.layer for layer in result.layers if layer.mode == "off"] == ["fc", "fc"]
    second = next(s.name for s in served.calibrated.activation_sites() if s.name != "fc.input")
    tamper(path, f"{second}.scale", lambda s: s * 1.05)
    faults = [layer.ok for layer in check(served, path, report, WARN).layers if layer.mode == "off"]
    assert faults == [True, False]


def test_the_flip_floor_is_reproducible_and_lies_between(vit: Served, tmp_path: Path) -> None:
    """0.1 % of flips disturb far less than quantization does, and far more than float32 rounding."""
    path, report = lowered(vit, "ort-x86", tmp_path)
    first, second = (check(vit, path, report) for _ in range(2))
    assert first.flip_floor_db == second.flip_floor_db
    assert first.end_to_end[0].quantization_db < first.flip_floor_db < 120


def test_the_figures_can_be_written_and_shown(cnn: Served, tmp_path: Path) -> None:
    result = check(cnn, *lowered(cnn, "ort-arm64", tmp_path))
    figures = json.loads(json.dumps(result.to_dict()))
    assert figures["layers"]["compared"] == len(cnn.calibrated.weight_sites())
    ends = figures["end to end, optimizations off"]
    assert ends["parity_db"] >= ends["required_db"]
    out = io.StringIO()
    result.render(Console(file=out, width=140))
    assert "3 layers from identical inputs" in out.getvalue()
    assert "ort-arm64 were not run on this machine" in " ".join(out.getvalue().split())
