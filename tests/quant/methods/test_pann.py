"""The method on small layers: steps from the formula, what the model then computes, and what it says."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export.onnx_export import export_qdq
from export.settings import ExportSettings
from quant.calibrate import CalibratedGraph, calibrate
from quant.encoding import Encoding, freeze
from quant.errors import BadInput
from quant.graph import capture
from quant.methods import MethodNote
from quant.recipe import Recipe


class Layers(nn.Module):
    """A patch convolution, a depthwise one and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patch, self.conv = nn.Conv2d(3, 16, 2, stride=2), nn.Conv2d(16, 16, 3, groups=16)
        self.fc = nn.Linear(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(self.patch(x).relu()).relu().mean((2, 3)))


IMAGES = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def calibrated(model: nn.Module, bits: int = 8, budget: int = 4, **changes: Any) -> CalibratedGraph:
    weight = {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"}
    kinds = ("linear", "patch_conv", "conv")
    recipe = {
        "name": "test",
        "specs": {"input": {"bits": bits}, "weight": weight | changes.get("weight", {})},
        "roles": {f"{kind}.{end}": end for kind in kinds for end in changes.get("ends", ("input", "weight"))},
        "methods": [{"name": "pann", "budget_bits": budget}],
    }
    graph = capture(model.eval(), IMAGES[:2])
    return calibrate(graph, Recipe.model_validate(recipe), lambda n: torch.split(IMAGES[:n], 8))


def notes_of(found: CalibratedGraph) -> dict[str, MethodNote]:
    return {note.layer: note for note in found.notes if note.method == "pann"}


@pytest.mark.parametrize(("bits", "budget", "additions"), [(8, 4, 2.5), (4, 4, 5.5), (6, 3, 2.25)])
def test_every_layer_gets_the_step_of_the_budget(bits: int, budget: int, additions: float) -> None:
    model = Layers()
    found = calibrated(model, bits, budget)
    frozen = freeze(found, Encoding())
    for name in ("patch", "conv", "fc"):
        weight = getattr(model, name).weight.detach().double()
        step = float(weight.abs().mean()) / additions  # ‖w‖₁ / (R d)
        scale = frozen[f"{name}.weight"].scale
        torch.testing.assert_close(scale, torch.full((len(weight),), step), rtol=1e-6, atol=0)
        assert notes_of(found)[name].applied


def test_the_model_computes_with_the_rounded_weights() -> None:
    model = Layers()
    found = calibrated(model)
    frozen = freeze(found, Encoding())
    seen: list[Tensor] = []
    site = next(s for s in found.sites if s.name == "fc.input")
    site.quantizer.register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.no_grad():
        output = found.graph(IMAGES)
    step = float(frozen["fc.weight"].scale[0])
    rounded = torch.round(model.fc.weight.detach() / step) * step
    torch.testing.assert_close(output, seen[0] @ rounded.T + model.fc.bias.detach(), rtol=1e-5, atol=1e-6)


def test_the_export_carries_the_codes(tmp_path: Path) -> None:
    model = Layers()
    found = calibrated(model)
    export_qdq(found, IMAGES[:2], tmp_path / "m.onnx", ExportSettings(), {})
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(tmp_path / "m.onnx").graph.initializer}
    weight = model.fc.weight.detach().double().numpy()
    expected = np.round(weight / (np.abs(weight).mean() / 2.5))
    codes = stored["fc.weight.codes"]
    assert np.array_equal(codes if codes.shape == expected.shape else codes.T, expected)  # Gemm or MatMul


def test_the_note_says_what_is_modelled_and_spent() -> None:
    model = Layers()
    text = notes_of(calibrated(model))["fc"].text
    weight = model.fc.weight.detach().double()
    additions = float(torch.round(weight / (weight.abs().mean() / 2.5)).abs().mean())
    assert "modelled energy (kernels multiply)" in text
    assert f"{additions:.2f} additions of 8 bits" in text
    assert f"{(additions + 0.5) * 8:.1f} bit flips for a budget of 24" in text
    assert "simulation only" not in text


def test_codes_beyond_8_bits_are_not_clipped_and_called_simulation() -> None:
    model = Layers()
    with torch.no_grad():
        model.fc.weight[0, 0] = 60.0
    found = calibrated(model)
    frozen = freeze(found, Encoding())
    assert "simulation only" in notes_of(found)["fc"].text
    site = next(s for s in found.sites if s.name == "fc.weight")
    step = float(frozen["fc.weight"].scale[0])
    rounded = site.quantizer(model.fc.weight.detach())
    assert float(rounded[0, 0] / step) > 127
    assert float(rounded[0, 0]) == pytest.approx(60.0, abs=step / 2)


def test_a_better_width_of_the_input_is_named() -> None:
    text = notes_of(calibrated(Layers(), bits=2, budget=8))["fc"].text
    assert "of the error" in text
    assert "inputs of 2 bits would" not in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ends": ("weight",)}, "not made of integers"),
        ({"weight": {"bits": 4}}, "8 bits wide"),
    ],
)
def test_layers_that_it_does_not_fit_are_left_alone(changes: dict[str, Any], reason: str) -> None:
    found = calibrated(Layers(), **changes)
    assert not any(note.applied for note in notes_of(found).values())
    assert all(reason in note.text for note in notes_of(found).values())
    assert not found.changes.grids


def test_a_wrong_option_is_refused() -> None:
    with pytest.raises(BadInput, match="budget_bits"):
        calibrated(Layers(), budget=1)
