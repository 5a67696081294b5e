"""The analysis ``weight_only`` against NumPy, on the perceptron of the AWQ example."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks.analyses.findings import Findings, Table, write_findings
from benchmarks.analyses.weight_only import WeightOnlyOptions, weight_only
from benchmarks.analyses.weight_only_errors import layer_errors
from benchmarks.analyses.weight_only_float import float_layers
from benchmarks.results import save_summary
from deploy.pipeline.config import RunConfig
from deploy.pipeline.images import calibration_batches
from deploy.pipeline.line import Line, variant_name
from examples.awq.train import MODEL, WEIGHTS
from export.lower import lower
from export.onnx_export import export_qdq
from export.settings import ExportSettings
from quant.calibrate import calibrate
from quant.data.config import SourceConfig
from quant.encoding import Encoding, freeze
from quant.errors import BadInput
from quant.graph.nodes import tensor_of
from quant.graph.parameters import set_parameter
from quant.progress import silent
from quant.recipe import Recipe
from tests.benchmarks.analyses.runs import summary_of

Array = NDArray[np.float64]
SHAPES = {"fc1": (128, 64), "fc2": (256, 128), "fc3": (128, 256), "fc4": (10, 128)}
GROUP = 64
IMAGES = 32
SCALES = {"name": "linear_linear_scale", "exponent": 0.5}


def recipe(name: str, bits: int = 4, methods: tuple[Any, ...] = (), **more: Any) -> Recipe:
    weight = {"bits": bits, "granularity": "per_group", "group_size": GROUP}
    settings = {
        "name": name,
        "specs": {"w": weight, "a": {}},
        "roles": {"linear.weight": "w"},
        "methods": methods,
    }
    return Recipe.model_validate(settings | more)


RECIPES = (
    recipe("rtn_4"),
    recipe("scaled_4", methods=(SCALES,)),
    recipe("rtn_8", bits=8),
    recipe("rounds_inputs", roles={"linear.weight": "w", "linear.input": "a"}),
)
WEIGHT_ONLY = tuple(r for r in RECIPES if r.name != "rounds_inputs")
RIGHT = {"rtn_4": 80, "scaled_4": 84, "rtn_8": 90}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """A run that was lowered and, so its files say, benched and audited."""
    digits = {split: SourceConfig(kind="digits", split=split) for split in ("calibration", "validation")}
    config = RunConfig(model=MODEL.model_copy(update={"weights": WEIGHTS}), **digits)
    line = Line(config, tmp_path_factory.mktemp("run"))
    batches = calibration_batches(line.calibration, line.loaded.preprocessing, 128)
    made = {chosen.name: calibrate(line.graph, chosen, batches) for chosen in RECIPES}
    # In the place of what they are computed from; a line keeps one calibration only, and has no files here.
    vars(line).update(recipes=RECIPES, _calibrated=made)
    qdq = line.workspace.path("qdq.onnx")  # one for all: lowering writes each recipe's own codes and scales
    export_qdq(line.calibrated(RECIPES[0]), line.example, qdq, ExportSettings(simplify=False), {})
    for chosen in WEIGHT_ONLY:
        file = line.workspace.path(f"{variant_name(chosen, line.targets[0])}/model.onnx")
        file.parent.mkdir()
        lower(qdq, line.calibrated(chosen), line.targets[0], file, {})
    found = [{"module": name, "op": op} for name, op in [("fc1", "MatMulNBits"), ("fc2", "MatMul")]]
    text = json.dumps({"multiplications": found})
    line.workspace.path("rtn_4-ort-x86/audit.json").write_text(text, encoding="utf-8")
    right = {"fp32": 90} | {f"{name}-ort-x86": n for name, n in RIGHT.items()}
    save_summary(summary_of(right), line.workspace.path("summary.json"))
    return line


@pytest.fixture(scope="module")
def findings(line: Line) -> Findings:
    families = {"scaled*": "scaled", "*": "other"}
    return weight_only(line, WeightOnlyOptions(images=IMAGES, families=families), silent)


def table(findings: Findings, name: str) -> Table:
    return next(t for t in findings.tables if t.name == name)


def rows(findings: Findings, name: str) -> list[dict[str, Any]]:
    found = table(findings, name)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def float_run(line: Line) -> tuple[dict[str, Array], dict[str, Array]]:
    """What each layer reads on the images that were looked at, and the weights, in float64."""
    weights = {n: line.loaded.model.get_submodule(n).weight.detach().double().numpy() for n in SHAPES}
    count = len(line.validation)
    every = next(iter(calibration_batches(line.validation, line.loaded.preprocessing, count)(None)))
    x = every[[i * count // IMAGES for i in range(IMAGES)]].flatten(1).double().numpy()
    inputs = {}
    for name, weight in weights.items():
        inputs[name] = x
        x = np.maximum(x @ weight.T, 0)
    return inputs, weights


def stored_weight(line: Line, name: str, layer: str, bits: int) -> tuple[Array, int]:
    """A layer's weight as the exported file has it, and the bytes it takes there, read with onnx alone."""
    model = onnx.load(line.workspace.path(f"{name}-ort-x86/model.onnx"))
    own = {
        t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name.startswith(f"{layer}.")
    }
    size = sum(array.nbytes for array in own.values())
    packed, scale, zero = (own[f"{layer}.weight.{part}"] for part in ("packed", "scale", "zero_point"))
    parts = [(a[..., None] >> np.arange(0, 8, bits)) & (2**bits - 1) for a in (packed, zero)]
    codes = parts[0].reshape(*scale.shape, -1).astype(np.float64)
    zeros = parts[1].reshape(len(scale), -1)[:, : scale.shape[1], None]
    return ((codes - zeros) * scale[..., None]).reshape(len(scale), -1), size


@pytest.mark.parametrize(("name", "bits"), [("rtn_4", 4), ("rtn_8", 8)])
def test_errors_and_bytes_are_those_of_the_exported_weights(
    line: Line, findings: Findings, name: str, bits: int
) -> None:
    inputs, weights = float_run(line)
    noise = power = 0.0
    x = inputs["fc1"]
    for row in (r for r in rows(findings, "layers") if r["recipe"] == name):
        layer = row["layer"]
        exact = weights[layer]
        rounded, size = stored_weight(line, name, layer, bits)
        error, wanted = rounded - exact, inputs[layer] @ exact.T
        noise, power = noise + np.square(error).sum(), power + np.square(exact).sum()
        x = x @ rounded.T  # behind the rounded layers
        share = {
            "weight error, %": np.linalg.norm(error) / np.linalg.norm(exact),
            "weight error so far, %": math.sqrt(noise / power),
            "output error, %": np.linalg.norm(inputs[layer] @ error.T) / np.linalg.norm(wanted),
            "accumulated error, %": np.linalg.norm(x - wanted) / np.linalg.norm(wanted),
        }
        x = np.maximum(x, 0)
        # float32 outputs differ from float64 ones by some 1e-7 of their size, 1e-4 of the smallest error
        assert {key: row[key] / 100 for key in share} == pytest.approx(share, rel=1e-3)
        assert row["output SQNR, dB"] == pytest.approx(-20 * math.log10(share["output error, %"]), abs=0.01)
        assert row["codes, bytes"] + row["scales, bytes"] + row["zero points, bytes"] == size
        assert row["by the format, bytes"] == size
        assert row["smaller, times"] == pytest.approx(4 * exact.size / size)


def test_channel_scales_are_taken_back(line: Line, findings: Findings) -> None:
    """The scales from their formula; weights and outputs in the units of the float model."""
    inputs, weights = float_run(line)
    sample = next(iter(calibration_batches(line.calibration, line.loaded.preprocessing, 64)(64)))
    x = sample.flatten(1).double().numpy()
    columns = {"fc1": np.ones(64)}
    for layer, behind in zip(SHAPES, [*list(SHAPES)[1:], ""], strict=True):
        x = np.maximum(x @ weights[layer].T, 0)
        magnitudes = x.mean(0)
        scale = np.maximum(magnitudes, 1e-3 * magnitudes.mean()) ** 0.5  # silent channels count a thousandth
        columns[behind] = scale / scale.mean()
    for layer, behind in zip(SHAPES, [*list(SHAPES)[1:], ""], strict=True):
        stored, _ = stored_weight(line, "scaled_4", layer, 4)
        above = columns[behind] if behind else np.ones(10)
        error = above[:, None] * stored / columns[layer] - weights[layer]
        (row,) = (r for r in rows(findings, "layers") if (r["recipe"], r["layer"]) == ("scaled_4", layer))
        wanted = np.linalg.norm(inputs[layer] @ weights[layer].T)
        output = np.linalg.norm(inputs[layer] @ error.T) / wanted
        assert row["weight error, %"] / 100 == pytest.approx(
            np.linalg.norm(error) / np.linalg.norm(weights[layer]), rel=1e-3
        )
        assert row["output error, %"] / 100 == pytest.approx(output, rel=1e-3)
        plain = next(r for r in rows(findings, "layers") if (r["recipe"], r["layer"]) == ("rtn_4", layer))
        assert row["of plain rounding's"] == pytest.approx(row["output error, %"] / plain["output error, %"])


def test_totals_are_exact_and_the_runs_figures_stand_beside_them(findings: Findings) -> None:
    by_name = {row["recipe"]: row for row in rows(findings, "variants")}
    assert list(by_name) == [chosen.name for chosen in WEIGHT_ONLY]
    weights = sum(o * k for o, k in SHAPES.values())
    for name, bits in (("rtn_4", 4), ("scaled_4", 4), ("rtn_8", 8)):
        groups = {shape: -(-shape[1] // GROUP) for shape in SHAPES.values()}
        size = sum(o * (k * bits // 8 + 4 * groups[o, k] + -(-groups[o, k] * bits // 8)) for o, k in groups)
        assert by_name[name]["weights, kB"] == pytest.approx(size / 1e3)
        assert by_name[name]["weights smaller, times"] == pytest.approx(4 * weights / size)
        assert by_name[name]["top-1, %"] == pytest.approx(RIGHT[name])
        assert by_name[name]["drop, points"] == pytest.approx(90 - RIGHT[name])
    assert by_name["rtn_4"]["run as MatMulNBits"] == "1 of 4"
    assert by_name["rtn_8"]["run as MatMulNBits"] is None
    assert by_name["rtn_4"]["layers below plain rounding"] == "0 of 4"
    ratios = [r["of plain rounding's"] for r in rows(findings, "layers") if r["recipe"] == "scaled_4"]
    assert by_name["scaled_4"]["output error of plain rounding's"] == pytest.approx(math.prod(ratios) ** 0.25)
    assert by_name["scaled_4"]["layers below plain rounding"] == f"{sum(r < 1 for r in ratios)} of 4"


def test_activations_are_the_float_models(line: Line, findings: Findings) -> None:
    inputs, _ = float_run(line)
    for row in rows(findings, "activations"):
        means = np.abs(inputs[row["layer"]]).mean(0)
        assert row["silent channels"] == (means == 0).sum()
        assert row["largest mean |x|"] == pytest.approx(means.max(), rel=1e-5)  # float32 inputs
        assert row["largest / median"] == pytest.approx(
            means.max() / np.quantile(means, 0.5, method="linear"), rel=1e-5
        )


def test_it_is_written_and_drawn(findings: Findings, tmp_path: Path) -> None:
    write_findings(findings, tmp_path / "found")
    with (tmp_path / "found" / "layers.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(WEIGHT_ONLY) * len(SHAPES)
    drawn = {drawing.name: drawing.svg for drawing in findings.drawings}
    assert {"output_rtn_4", "accumulated_rtn_4", "weight_rtn_8", "accuracy_size"} <= set(drawn)
    assert all(name in drawn["output_rtn_4"] for name in ("rtn_4", "scaled_4", "fc3"))
    assert "rtn_8" not in drawn["output_rtn_4"]
    assert any("rounds_inputs" in remark for remark in findings.remarks)
    notes = [row for row in rows(findings, "choices") if row["recipe"] == "scaled_4"]
    assert [row["layer"] for row in notes] == ["fc1", "fc2", "fc3"]


def test_a_recipe_that_also_rounds_activations_is_refused_by_name(line: Line) -> None:
    with pytest.raises(BadInput, match="rounds_inputs also rounds activations"):
        weight_only(line, WeightOnlyOptions(recipes=("rtn_4", "rounds_inputs")), silent)


def test_a_layer_that_is_more_than_scaled_is_compared_with_itself(line: Line, findings: Findings) -> None:
    assert not any("rewrote" in remark for remark in findings.remarks)
    images = list(calibration_batches(line.calibration, line.loaded.preprocessing, 64)(64))
    calibrated = calibrate(line.graph, RECIPES[0], lambda _: images)
    rotation = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)))[0]
    for graph in (calibrated.graph, calibrated.reference):
        set_parameter(graph, "fc1.weight", tensor_of(graph, "fc1.weight") @ rotation)
    freeze(calibrated, Encoding())
    errors = layer_errors(calibrated, float_layers(line.graph, images), images)
    turned = tensor_of(calibrated.reference, "fc1.weight")
    rounded = calibrated.weight_sites()[0].quantizer(turned)
    assert not errors[0].explained
    assert errors[0].weight == pytest.approx(float((rounded - turned).norm() / turned.norm()), rel=1e-5)
