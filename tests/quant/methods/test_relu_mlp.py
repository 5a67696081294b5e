import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from export.lower import lower
from export.onnx_export import export_qdq
from export.parity import check_parity
from export.settings import ExportSettings
from export.targets import get_target
from quant.calibrate import CalibratedGraph, calibrate, check_methods
from quant.encoding import Encoding, freeze
from quant.errors import BadInput
from quant.graph.nodes import is_call, tensor_of
from quant.methods.mlp import GeluMlp
from quant.methods.relu_mlp import ReluMlpOptions, train_relu_mlp
from quant.profile import profile
from quant.recipe import Recipe, load_recipe
from quant.store import load_calibration, save_calibration
from tests.export.small_models import calibrated_of, executed, images_of, tiny_vit
from tests.quant.methods.small_vit import calibrated, captured, images, recipe, small_vit, sqnr

METHOD = {"name": "relu_mlp", "iterations": 60, "batch": 64, "rate": 0.05, "most_error": 0.5}
SIDE_PATH = {"name": "outlier_side_path", "threshold": 1.5, "most": 0.2}
FC2 = "block.fc2"


def notes_of(result: CalibratedGraph) -> list[tuple[bool, str]]:
    return [(note.applied, note.text) for note in result.notes if note.method == "relu_mlp"]


def activations(graph: fx.GraphModule) -> list[object]:
    targets = (torch.ops.aten.gelu.default, torch.ops.aten.relu.default)
    return [node.target for node in graph.graph.nodes if is_call(node, *targets)]


def test_training_brings_relu_close_to_gelu_where_a_mere_swap_is_far():
    """Judged on rows that neither trained nor judged, with the layers' formula in float64."""
    block = small_vit().block
    names = {"weight1": block.fc1.weight, "bias1": block.fc1.bias, "weight2": block.fc2.weight}
    old = {key: value.detach() for key, value in names.items()} | {"bias2": block.fc2.bias.detach()}
    options = ReluMlpOptions(iterations=150, rate=0.05)
    x = functional.layer_norm(torch.randn(3000, 24, generator=torch.Generator().manual_seed(0)), (24,))
    new, errors = train_relu_mlp(GeluMlp(old, "none"), x[:2000], options, seed=0)

    def share_wrong(weights: dict[str, Tensor]) -> float:
        w = {key: value.double() for key, value in weights.items()}
        o = {key: value.double() for key, value in old.items()}
        rows = x[2000:].double()
        z = rows @ o["weight1"].T + o["bias1"]
        y = z * 0.5 * (1 + torch.erf(z / 2**0.5)) @ o["weight2"].T + o["bias2"]
        found = (rows @ w["weight1"].T + w["bias1"]).clamp(min=0) @ w["weight2"].T + w["bias2"]
        return float((found - y).square().sum() / (y - y.mean(0)).square().sum())

    swapped, trained = share_wrong(old), share_wrong(new)
    assert trained < 0.4 * swapped
    # two samples of rows of one distribution
    assert errors.tolist() == pytest.approx([swapped, trained], rel=0.2)


@pytest.mark.parametrize("others", [[], [SIDE_PATH]], ids=["alone", "side-path"])
def test_the_graph_has_relu_and_the_reference_stays_the_original_model(others):
    model, x = small_vit(), images(32, seed=3)
    result = calibrated(model, recipe(*others, METHOD))
    (note,) = notes_of(result)
    assert note[0]
    assert note[1].startswith("held-out error ")
    assert activations(result.graph) == [torch.ops.aten.relu.default]
    # float32: sums of 64 products of size up to about 20; a side path adds its part in another order
    torch.testing.assert_close(result.reference(x), model(x), rtol=1e-4, atol=1e-4)
    swapped = small_vit.__wrapped__()
    swapped.block.act = nn.ReLU()
    assert sqnr(result.graph(x), model(x)) > sqnr(swapped(x), model(x)) + 3.0  # dB


def test_the_input_of_the_second_layer_uses_every_code():
    result = calibrated(small_vit(), recipe(METHOD, activation={"bits": 4}))
    freeze(result, Encoding())
    (site,) = (s for s in result.sites if s.name == f"{FC2}.input")
    assert int(site.quantizer.qparams.zero_point) == int(site.quantizer.qparams.qmin)


def test_a_side_path_keeps_its_units():
    result = calibrated(small_vit(), recipe(SIDE_PATH, METHOD))
    units = tensor_of(result.graph, f"{FC2}.side_units").tolist()
    weight = tensor_of(result.graph, f"{FC2}.weight")
    assert units
    assert not weight[:, units].any()
    before = tensor_of(calibrated(small_vit(), recipe(SIDE_PATH)).graph, f"{FC2}.side_weight")
    now = tensor_of(result.graph, f"{FC2}.side_weight")
    assert not torch.equal(now, before)
    torch.testing.assert_close(now, before, rtol=0.5, atol=0.5)  # trained, from the same start


def test_a_stored_calibration_makes_the_same_graph_without_images(tmp_path):
    model, x = small_vit(), images(8, seed=3)
    result = calibrated(model, recipe(SIDE_PATH, METHOD, {"name": "bias_correction"}))
    save_calibration(result, tmp_path / "c.safetensors", "f")
    loaded = load_calibration(tmp_path / "c.safetensors", captured(model), "f")
    for one in (result, loaded):
        freeze(one, Encoding())
    assert torch.equal(loaded.graph(x), result.graph(x))
    assert torch.equal(loaded.reference(x), result.reference(x))
    assert loaded.notes == result.notes


@pytest.mark.parametrize("later", [{"name": "hadamard"}, SIDE_PATH, METHOD], ids=lambda m: m["name"])
def test_it_must_be_the_last_graph_method(later):
    with pytest.raises(BadInput, match=f"'relu_mlp' changes .* put it behind '{later['name']}'"):
        check_methods(recipe(METHOD, {"name": "bias_correction"}, later))


def test_tuning_methods_may_stand_in_front_of_it():
    check_methods(recipe({"name": "hadamard"}, {"name": "gptq"}, METHOD, {"name": "reconstruct"}))


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(24, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return result


@pytest.mark.parametrize(
    ("model", "chosen", "reason"),
    [
        (small_vit(), recipe(METHOD | {"most_error": 1e-6}), r".*, above 1e-06: keeps GELU"),
        (small_vit(), recipe(METHOD, activation={"symmetric": True}), "its input's format is symmetric.*"),
        (small_vit(), recipe({"name": "gelu_scale"}, METHOD), "another method has put something behind.*"),
        (Chain(), recipe(METHOD), "no shortcut leads around it.*"),
    ],
    ids=["error", "symmetric", "scaled", "chain"],
)
def test_it_keeps_gelu_and_says_why(model, chosen, reason):
    result = calibrated(model, chosen)
    ((applied, text),) = notes_of(result)
    assert not applied
    assert re.fullmatch(reason, text)
    assert activations(result.graph) == [torch.ops.aten.gelu.default]
    torch.testing.assert_close(result.reference(images(4)), model(images(4)), rtol=1e-4, atol=1e-4)


def test_too_few_rows_decide_nothing():
    chosen = recipe(METHOD | {"held_out": 0.1})
    result = calibrate(captured(small_vit()), chosen, lambda _: [images(1)])
    (note,) = notes_of(result)
    assert note == (False, "too few rows to train on, or its output never changes: keeps GELU")


def test_the_seed_decides():
    found = [
        tensor_of(
            calibrated(small_vit(), recipe(METHOD).model_copy(update={"seed": seed})).graph, f"{FC2}.weight"
        )
        for seed in (0, 0, 1)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    "tuning",
    [
        {"name": "reconstruct", "iterations": 60},
        {
            "name": "fine_tune",
            "epochs": 3,
            "features": 1.0,
            "weight_rate": 0.01,
            "mirror": False,
            "crop": 1.0,
            "held_out": 0.2,
        },
    ],
    ids=lambda m: m["name"],
)
def test_training_behind_it_brings_the_model_closer_to_the_original(tuning):
    model, x, found = small_vit(), images(32, seed=2), []
    for methods in ([METHOD], [METHOD, tuning]):
        result = calibrated(model, recipe(*methods))
        assert [applied for applied, _ in notes_of(result)] == [True]
        freeze(result, Encoding())
        found.append(sqnr(result.graph(x), model(x)))
    assert found[1] > found[0] + 0.5  # dB


def test_layers_are_compared_with_what_they_were_trained_to_be():
    """Bias correction would take back what training did to fc1's bias, if it saw the first fc1's outputs."""
    model = small_vit()
    trained, corrected = (
        tensor_of(calibrated(model, recipe(*methods)).graph, "block.fc1.bias")
        for methods in ([METHOD], [METHOD, {"name": "bias_correction"}])
    )
    assert not torch.equal(corrected, trained)
    assert (corrected - trained).norm() < 0.2 * (trained - model.block.fc1.bias).norm()


def test_a_profile_compares_the_layers_with_what_they_were_trained_to_be():
    result = calibrated(small_vit(), recipe(METHOD))
    freeze(result, Encoding())
    layers = {layer.name: layer for layer in profile(result, [images(16, seed=2)]).layers}
    # 8 bits: noise of 30 dB and more; against the layers before training it would be some 10 dB
    assert min(layers["block.fc1"].isolated.qsnr_db, layers["block.fc2"].isolated.qsnr_db) > 25.0


def test_the_exported_file_computes_the_calibrated_graph(tmp_path: Path):
    data = images_of(16, 3, 32, 32)
    methods = [{"name": "hadamard"}, SIDE_PATH, METHOD, {"name": "bias_correction"}]
    chosen = Recipe.model_validate(load_recipe("w4a4").model_dump() | {"methods": methods})
    graph, result = calibrated_of(tiny_vit(), data, chosen)
    assert [applied for applied, _ in notes_of(result)] == [True]
    settings, target, path = ExportSettings(parity_images=16), get_target("ort-x86"), tmp_path / "m.onnx"
    export_qdq(result, data[:2], tmp_path / "qdq.onnx", settings, {})
    lowered = lower(tmp_path / "qdq.onnx", result, target, path, {})
    report = check_parity(result, lowered, graph, path, target, data, settings)
    assert report.failure is None
    assert "blocks.0.mlp.fc2" in [layer.layer for layer in report.layers]
    assert "Gelu" not in executed(path, tmp_path)
