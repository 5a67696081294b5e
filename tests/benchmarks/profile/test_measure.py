import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from benchmarks.profile.files import write_profile
from benchmarks.profile.measure import LayerSensitivity, asked, measure_layers, untuned
from benchmarks.profile.sensitivity import draw_measured
from quant.calibrate import calibrate
from quant.calibrated import CalibratedGraph
from quant.encoding import Encoding, freeze
from quant.errors import BadInput, Unsupported
from quant.graph import capture
from quant.mixed.bench import Bench
from quant.mixed.formats import Formats
from quant.mixed.groups import find_groups
from quant.mixed.pareto import ParetoPoint
from quant.mixed.sensitivity import Sensitivity, measure, metric_names
from quant.mixed.settings import MixedPrecision
from quant.profile import profile
from quant.recipe import Recipe
from tests.export.small_models import FP8, images_of, simple_recipe, weight_recipe

IMAGES = images_of(24, 16)
BITS = (3, 4, 5, 8)


class Unequal(nn.Module):
    """A stream that two layers add to, one of them a thousand times as much."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weak, self.strong, self.head = nn.Linear(16, 24), nn.Linear(16, 24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = 1e-3 * self.weak(torch.tanh(x)) + self.strong(x)
        logits: Tensor = 0.1 * self.head(torch.tanh(y))
        return logits


@cache
def captured() -> fx.GraphModule:
    return capture(Unequal().eval(), IMAGES[:2])


def batches(count: int | None) -> list[Tensor]:
    return list(IMAGES[:count].split(8))


def changed(recipe: Recipe, **fields: Any) -> Recipe:
    return Recipe.model_validate(recipe.model_dump() | fields)


def calibrated_with(recipe: Recipe) -> CalibratedGraph:
    return calibrate(captured(), recipe, batches)


def measured(calibrated: CalibratedGraph, *metrics: str) -> LayerSensitivity:
    plain = untuned(calibrated, captured(), batches)
    return measure_layers(plain, batches(None), metrics, asked(metrics, BITS, calibrated))


@pytest.fixture(scope="module")
def found() -> LayerSensitivity:
    return measured(calibrated_with(simple_recipe()), "kl", "fisher", "nuclear_norm")


def test_the_table_is_that_of_the_metrics_in_the_order_of_execution(
    found: LayerSensitivity, tmp_path: Path
) -> None:
    calibrated = calibrated_with(simple_recipe())
    freeze(calibrated, Encoding())
    figures = profile(calibrated, batches(None))
    write_profile(figures, tmp_path / "profile", {"model": "m"}, found)

    groups = find_groups(calibrated)
    probes = MixedPrecision.model_fields["probes"].default
    bench = Bench(
        calibrated.graph, groups, BITS, Formats(calibrated, groups, BITS), batches(None), probes=probes
    )
    direct = measure(bench, ["kl", "fisher", "nuclear_norm"])
    with (tmp_path / "profile" / "sensitivity.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["layer", "bits", "kl", "fisher", "nuclear_norm"]
    assert [(row["layer"], int(row["bits"])) for row in table] == [
        (name, bits) for name in ("weak", "strong", "head") for bits in BITS
    ]
    for metric, expected in direct.items():
        assert [float(row[metric]) for row in table] == [v for row in expected.values for v in row]

    about = json.loads((tmp_path / "profile" / "summary.json").read_text())["sensitivity"]
    assert (about["metrics"], about["bits"]) == (["kl", "fisher", "nuclear_norm"], list(BITS))
    assert (about["images"], about["layers"]) == (24, 3)
    plots = {file.stem for file in (tmp_path / "profile" / "plots").iterdir()}
    assert {"sensitivity_kl", "sensitivity_fisher", "sensitivity_nuclear_norm", "pareto"} <= plots


@pytest.mark.parametrize("metric", ["kl", "fisher"])
def test_the_layer_that_hardly_counts_comes_last(found: LayerSensitivity, metric: str) -> None:
    ranked = found.ranked(metric)
    assert ranked[-1][0] == "weak"
    assert ranked[0][1] == max(found.tables[metric].of(name, 3) for name in ("weak", "strong", "head"))
    assert ranked[1][1] > 1e3 * ranked[2][1]


def test_the_front_spans_the_widths_and_beats_uniform_ones(found: LayerSensitivity) -> None:
    omega = found.tables["kl"].omega
    assert {bits: cost for bits, (cost, _) in found.uniform.items()} == pytest.approx({b: b for b in BITS})
    assert [loss for _, loss in found.uniform.values()] == pytest.approx(omega.sum(axis=0))
    assert found.front[0].cost == pytest.approx(3)
    assert found.front[-1].loss == pytest.approx(omega.min(axis=1).sum())
    # The layer that hardly counts pays for the others.
    affordable = [point.loss for point in found.front if point.cost <= 4 + 1e-9]
    assert min(affordable) < found.uniform[4][1]


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": [{"name": "gptq"}, {"name": "bias_correction"}]},
        {"mixed_precision": {"bits": [4, 8], "budget": {"kind": "mean_bits", "value": 6}}},
    ],
)
def test_widths_are_compared_on_plain_formats(found: LayerSensitivity, changes: dict[str, Any]) -> None:
    calibrated = calibrated_with(changed(simple_recipe(), **changes))
    freeze(calibrated, Encoding())  # as profiling leaves it
    assert measured(calibrated, "kl").tables["kl"] == found.tables["kl"]


def test_only_tuned_weights_are_calibrated_again() -> None:
    calibrated = calibrated_with(simple_recipe())

    def none(count: int | None) -> list[Tensor]:
        raise AssertionError(f"{count} images were asked for")

    assert untuned(calibrated, captured(), none) is calibrated


@pytest.mark.parametrize(
    ("metrics", "bits", "words"),
    [
        (["kl", "fischer"], BITS, ("'fischer'", "did you mean 'fisher'", *metric_names())),
        (["kl"], (4, 9), ("9 bits", "2, 3, 4, 5, 6, 7, 8, 16")),
        (["kl"], (4,), ("two or more",)),
    ],
)
def test_what_does_not_exist_is_refused(
    metrics: list[str], bits: tuple[int, ...], words: tuple[str, ...]
) -> None:
    with pytest.raises(BadInput) as refused:
        asked(metrics, bits, calibrated_with(simple_recipe()))
    assert all(word in str(refused.value) for word in words)


def test_a_format_of_one_width_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"weak.*fp8_e4m3"):
        asked(["kl"], BITS, calibrated_with(weight_recipe(FP8)))


def test_no_loss_at_all_leaves_only_the_front() -> None:
    zero = Sensitivity("kl", 4, ("a", "b"), (4, 8), ((0.0, 0.0), (0.0, 0.0)))
    point = ParetoPoint(4.0, 0.0, (0, 0))
    nothing = LayerSensitivity({"kl": zero}, (point,), {4: (4.0, 0.0), 8: (8.0, 0.0)})
    assert [drawing.name for drawing in draw_measured(nothing)] == ["pareto"]
