"""The analysis ``observers`` on a small random ViT, calibrated with recipes of FQ-ViT's grid."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.analyses.findings import Findings
from benchmarks.analyses.observers import ObserversOptions, observers
from benchmarks.profile.files import summary_of
from benchmarks.results import load_summary, save_summary
from deploy.pipeline.images import Spread, calibration_batches
from deploy.pipeline.line import Line
from export.targets import TARGETS
from quant.encoding import freeze
from quant.errors import BadInput
from quant.graph import capture
from quant.models.config import ModelConfig
from quant.models.load import load_model
from quant.profile import profile
from quant.progress import silent
from quant.recipe import load_recipe, load_recipes
from tests.benchmarks.analyses.runs import line_of
from tests.export.small_models import images_of

FOLDER = Path(__file__).resolve().parents[3] / "examples" / "fq_vit"
GRID = {r.name: r for name in ("grid", "steps") for r in load_recipes(FOLDER / f"{name}.yaml")}
RIGHT = {"minmax_layer": 10, "omse_layer": 20, "minmax_channel": 80, "ptf_log2_4": 85}
RECIPES = (*(GRID[name] for name in RIGHT), load_recipe("int8").model_copy(update={"methods": ()}))
SIZES = {"img_size": 32, "patch_size": 16, "in_chans": 1, "embed_dim": 24, "depth": 1, "num_classes": 10}
IMAGES = 4
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    loaded = load_model(ModelConfig(name="vit_tiny_patch16_224", kwargs=SIZES), seed=0)
    images = images_of(8, 1, 32, 32)
    root = tmp_path_factory.mktemp("run")
    right = {"fp32": 92, "int8-ort-x86": 90} | {f"{name}-ort-x86": n for name, n in RIGHT.items()}
    made = line_of(root, capture(loaded.model.eval(), images[:2]), RECIPES, images, right)
    vars(made)["loaded"] = loaded
    summary = load_summary(root / "summary.json")
    known = [
        v.model_copy(update={"accuracy": replace(v.accuracy, agreement=0.5, sqnr_db=12.345, cosine=0.98765)})
        for v in summary.variants
        if v.accuracy is not None
    ]
    save_summary(summary.model_copy(update={"variants": tuple(known)}), root / "summary.json")
    return made


@pytest.fixture(scope="module")
def found(line: Line) -> Findings:
    return observers(line, ObserversOptions(images=IMAGES), silent)


def row_of(found: Findings, name: str) -> dict[str, Any]:
    (table,) = found.tables
    (row,) = (row for row in table.rows if row[0] == name)
    return dict(zip(table.columns, row, strict=True))


def texts(found: Findings, drawing: str) -> list[str]:
    (svg,) = (d.svg for d in found.drawings if d.name == drawing)
    root = ElementTree.fromstring(svg.encode())
    return ["".join(node.itertext()).strip() for node in root.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("minmax_layer", ("minmax", "layer", "layer", "float", "uniform, 8 bits")),
        ("minmax_channel", ("minmax", "channel", "channel", "float", "uniform, 8 bits")),
        ("ptf_log2_4", ("minmax", "channel", "powers of two", "integer", "log2, 4 bits")),
        ("int8", ("percentile, alpha 0.99999", "channel", "float", "float", "float")),
    ],
)
def test_a_row_says_what_the_recipe_chooses(found: Findings, name: str, words: tuple[str, ...]) -> None:
    row = row_of(found, name)
    assert tuple(row[c] for c in ("observer", "weights", "stream", "LayerNorm", "softmax")) == words


def test_measured_figures_are_the_summarys(found: Findings) -> None:
    row = row_of(found, "minmax_channel")
    assert (row["top-1, %"], row["drop, points"], row["agreement, %"]) == (80.0, 12.0, 50.0)
    assert (row["logit SQNR, dB"], row["logit cosine, %"], row["top-5, %"]) == (12.35, 98.77, None)


@pytest.mark.parametrize("name", ["omse_layer", "int8"])
def test_the_layers_qsnr_is_that_of_a_profile(line: Line, found: Findings, name: str) -> None:
    """As `octavo profile` tells it of the same images."""
    calibrated = line.calibrated(line.recipe_named(name))
    freeze(calibrated, TARGETS["ort-x86"].encoding())
    batches = calibration_batches(Spread(line.validation, IMAGES), line.loaded.preprocessing, IMAGES)
    profiled = summary_of(profile(calibrated, batches(None), lambda _: None))
    assert row_of(found, name)["mean layer QSNR, dB"] == pytest.approx(profiled["qsnr_db"]["mean"], abs=0.01)


def test_drawings_name_every_recipe_and_only_observers_that_can_be_compared(found: Findings) -> None:
    assert {*RIGHT, "int8", "FP32", "10.0", "85.0"} <= set(texts(found, "recipes"))
    map_of_observers = texts(found, "observers")
    assert {"minmax", "omse", "10.0", "20.0", "weights: layer"} <= set(map_of_observers)
    assert not {"80.0", "85.0", "percentile, alpha 0.99999"} & set(
        map_of_observers
    )  # alone in their settings


def test_layers_may_be_left_out_and_recipes_chosen(line: Line) -> None:
    found = observers(line, ObserversOptions(recipes=("int8",), images=0), silent)
    assert row_of(found, "int8")["mean layer QSNR, dB"] is None
    assert [d.name for d in found.drawings] == ["recipes"]
    with pytest.raises(BadInput, match="int9"):
        observers(line, ObserversOptions(recipes=("int9",)), silent)
