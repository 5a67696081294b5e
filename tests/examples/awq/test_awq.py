from pathlib import Path

import pytest

from benchmarks.analyses.weight_only_errors import LayerErrors, layer_errors
from benchmarks.analyses.weight_only_float import float_layers
from benchmarks.suite import begin
from deploy.pipeline.images import calibration_batches
from deploy.pipeline.line import Line
from examples.awq import train as awq
from examples.digits import train as digits
from quant.calibrate import calibrate
from quant.encoding import Encoding, freeze
from quant.errors import BadInput
from quant.models.load import load_model
from quant.recipe import load_recipes

EXAMPLES = Path(awq.__file__).parents[1]
SUITE = EXAMPLES / "awq_mlp.yaml"


def test_the_stored_perceptron_is_small_and_reads_digits_it_never_saw() -> None:
    assert awq.WEIGHTS.stat().st_size <= 160_000
    correct, total = digits.accuracy(awq.WEIGHTS, awq.MODEL)
    assert total == 360
    assert correct / total >= 0.98


def test_training_repeats_bit_for_bit(tmp_path: Path) -> None:
    loaded = load_model(awq.MODEL, seed=0)
    images, labels = (rows[:128] for rows in digits.split("train", loaded.preprocessing))
    for name in ("a", "b"):
        model = load_model(awq.MODEL, seed=0).model
        digits.train(model, images, labels, epochs=2, seed=0)
        digits.store(model, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_grids_have_the_recipes_that_the_readme_speaks_of() -> None:
    methods = ("rtn", "awq", "gptq", "awq_gptq")
    mlp = {recipe.name: recipe for recipe in load_recipes(EXAMPLES / "awq/grid.yaml")}
    formats = ("w4_g32", "w4_g64", "w4_g128", "w8_g32", "w8_g64")
    assert set(mlp) == {f"{method}_{form}" for method in methods for form in formats}
    for name, recipe in mlp.items():
        spec = recipe.spec_for("linear.weight", "fc2")
        assert spec is not None
        assert f"w{spec.bits}_g{spec.group_size}" in name
        assert recipe.spec_for("linear.input", "fc2") is None
    first = mlp["awq_w4_g128"].spec_for("linear.weight", "fc1")  # of 64 inputs
    assert first is not None
    assert (first.bits, first.group_size) == (4, 64)
    vit = {recipe.name for recipe in load_recipes(EXAMPLES / "awq/vit.yaml")}
    wide = {"rtn_w8_g64", "awq_w8_g64"}
    assert vit == {f"{method}_w4_g{size}" for method in methods for size in (32, 64)} | wide


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    (line,) = begin(SUITE, tmp_path_factory.mktemp("awq"), ["digits"])
    return line


@pytest.mark.parametrize("form", ["w4_g32", "w4_g64", "w4_g128"])
def test_awq_lowers_the_output_error_of_every_layer_on_images_it_never_saw(line: Line, form: str) -> None:
    seen = calibration_batches(line.validation, line.loaded.preprocessing, 360)(None)
    images = list(seen)
    exact = float_layers(line.graph, images)

    def errors(method: str) -> tuple[LayerErrors, ...]:
        learned = calibration_batches(line.calibration, line.loaded.preprocessing, 256)
        calibrated = calibrate(line.graph, line.recipe_named(f"{method}_{form}"), learned)
        freeze(calibrated, Encoding())
        return layer_errors(calibrated, exact, images)

    for plain, own in zip(errors("rtn"), errors("awq"), strict=True):
        assert own.output < plain.output, own.name


def test_without_the_data_folder_only_the_digits_can_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(BadInput, match=r"run 'vit_tiny'.*nowhere"):
        begin(SUITE, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    assert [line.workspace.root.name for line in begin(SUITE, tmp_path / "runs", ["digits"])] == ["digits"]
