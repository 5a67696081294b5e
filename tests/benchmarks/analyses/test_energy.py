"""The analysis ``energy`` against sums written out here."""

from typing import Any

import pytest
import torch
from torch import fx, nn

from benchmarks.analyses.energy import EnergyOptions, energy
from benchmarks.analyses.findings import Findings
from benchmarks.energy import modelled
from deploy.pipeline.line import Line
from quant.census import take_census
from quant.energy.additions import added_layers, joules_per_flip
from quant.errors import BadInput
from quant.graph import capture
from quant.graph.nodes import tensor_of
from quant.progress import silent
from quant.recipe import Recipe
from tests.benchmarks.analyses.runs import line_of
from tests.export.small_models import images_of

IMAGES = images_of(16, 3, 4, 4)
WEIGHTS = 48 * 32, 32 * 10
DRAM, SRAM, PICO = 1300 / 64, 100 / 64, 1e-12  # pJ a bit


@pytest.fixture(scope="module")
def graph() -> fx.GraphModule:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    return capture(model, IMAGES[:2])


def recipe(name: str, weight: int = 8, activation: int = 8, **more: Any) -> Recipe:
    formats = {"bits": weight, "signed": True, "symmetric": True, "granularity": "per_channel"}
    specs = {"input": {"bits": activation}, "weight": formats}
    roles = {"linear.input": "input", "linear.weight": "weight"}
    return Recipe.model_validate({"name": name, "specs": specs, "roles": roles} | more)


FP8 = {"bits": 8, "signed": True, "symmetric": True, "scheme": "fp8_e4m3"}
RECIPES = (
    recipe("w4a8", weight=4),
    recipe("w8a8"),
    recipe("w4a4", 4, 4),
    recipe("w8a4", 8, 4),
    recipe("pann", activation=6, methods=[{"name": "pann", "budget_bits": 4}]),
    recipe("fp8", specs={"input": FP8, "weight": FP8}),
)
RIGHT = {"fp32": 90, "w4a8": 70, "w8a8": 90, "w4a4": 80, "w8a4": 70, "pann": 60, "fp8": 90}
OPTIONS = {"families": {"uniform": "w*"}, "drawn": ["fp32", "w4a4"], "size": "packed"}


@pytest.fixture(scope="module")
def line(graph: fx.GraphModule, tmp_path_factory: pytest.TempPathFactory) -> Line:
    right = {name if name == "fp32" else f"{name}-ort-x86": n for name, n in RIGHT.items()}
    return line_of(tmp_path_factory.mktemp("run"), graph, RECIPES, IMAGES, right)


@pytest.fixture(scope="module")
def found(line: Line) -> Findings:
    return energy(line, EnergyOptions.model_validate(OPTIONS), silent)


def rows(found: Findings, table: str) -> list[dict[str, Any]]:
    (chosen,) = (t for t in found.tables if t.name == table)
    return [dict(zip(chosen.columns, row, strict=True)) for row in chosen.rows]


def row_of(found: Findings, table: str, **values: Any) -> dict[str, Any]:
    (row,) = (r for r in rows(found, table) if all(r[key] == value for key, value in values.items()))
    return row


def test_every_layer_by_hand(graph: fx.GraphModule, found: Findings) -> None:
    total = 0.0
    for layer, i, o in (("1", 48, 32), ("3", 32, 10)):
        row = row_of(found, "layers", recipe="w4a8", layer=layer)
        # The wider operand counts: 0.2 pJ for 8 bits, 0.1 pJ for the sum; outputs move in float.
        assert row["arithmetic, mJ"] == pytest.approx(1e3 * i * o * 0.3 * PICO)
        assert row["weights, mJ"] == pytest.approx(1e3 * i * o * 4 * DRAM * PICO)
        assert row["activations, mJ"] == pytest.approx(1e3 * (i * 8 + o * 32) * SRAM * PICO)
        total += row["energy, mJ"]
    plain, quantized = (row_of(found, "variants", variant=name) for name in ("fp32", "w4a8-ort-x86"))
    assert quantized["energy, mJ"] == pytest.approx(total)
    assert quantized["less than FP32, %"] == pytest.approx(100 * (1 - total / plain["energy, mJ"]))
    assert quantized["weights packed, MB"] == pytest.approx(sum(WEIGHTS) * 4 / 8 / 1e6)
    assert quantized["drop, points"] == pytest.approx(20.0)
    of_the_run = modelled(graph, RECIPES[0])
    assert of_the_run is not None
    assert quantized["energy, mJ"] == pytest.approx(of_the_run.modelled_mj)


def test_weights_in_the_cache_and_the_other_rule_cost_less(line: Line) -> None:
    options = {"weights": "sram_1m", "rule": "product", "weight_reads": 0.5, "recipes": ["w4a8"]}
    found = energy(line, EnergyOptions.model_validate(options), silent)
    row = row_of(found, "layers", recipe="w4a8", layer="1")
    assert row["weights, mJ"] == pytest.approx(1e3 * 48 * 32 * 4 * 0.5 * SRAM * PICO)
    assert row["arithmetic, mJ"] == pytest.approx(1e3 * 48 * 32 * 0.2 * PICO)  # 0.2 · 32/64 + 0.1
    assert [row["variant"] for row in rows(found, "variants")] == ["fp32", "w4a8-ort-x86"]


def test_bit_flips_are_those_of_the_published_table(found: Findings) -> None:
    eight, four = (row_of(found, "flips", recipe=name) for name in ("w8a8", "w4a4"))
    assert (eight["signed"], eight["unsigned"], four["signed"], four["unsigned"]) == (72, 64, 36, 24)
    assert four["saved, %"] == pytest.approx(100 / 3)
    assert eight["integer MACs, %"] == 100
    assert eight["repeated additions"] is None


def test_pann_counts_as_repeated_additions(graph: fx.GraphModule, found: Findings, line: Line) -> None:
    flips = row_of(found, "flips", recipe="pann")
    spent, storage = 0.0, 0
    for name, macs in zip(("1.weight", "3.weight"), WEIGHTS, strict=True):
        weight = tensor_of(graph, name).detach().double()
        codes = torch.round(weight / (weight.abs().mean() / (24 / 6 - 0.5))).abs()  # γ_w = ‖w‖₁ / (R d)
        spent += macs * (float(codes.mean()) + 0.5) * 6
        storage += macs * (int(codes.max()).bit_length() + 1)
    assert flips["repeated additions"] == pytest.approx(spent / sum(WEIGHTS))
    assert flips["repeated additions"] == pytest.approx(24, rel=0.02)  # rounding moves R a little
    assert joules_per_flip() == pytest.approx(0.3e-12 / 72)
    variant = row_of(found, "variants", variant="pann-ort-x86")
    assert variant["arithmetic, mJ"] == pytest.approx(1e3 * spent * 0.3e-12 / 72)
    assert variant["weights, mJ"] == pytest.approx(1e3 * storage * DRAM * PICO)
    assert set(added_layers(line.calibrated(RECIPES[4]), take_census(graph))) == {"1", "3"}


def test_the_front_and_the_drawings(found: Findings) -> None:
    # w8a8 is as right as FP32 for less; all others are less right than w4a4 and cost more.
    assert found.figures["front"] == ["w4a4-ort-x86", "w8a8-ort-x86"]
    names = [drawing.name for drawing in found.drawings]
    assert names == ["layers_fp32", "layers_w4a4", "parts", "energy_pareto", "size_pareto"]
    assert ">uniform</text>" in found.drawings[3].svg


def test_what_has_no_energy_is_left_out_and_named(found: Findings, line: Line) -> None:
    assert "fp8-ort-x86" not in [row["variant"] for row in rows(found, "variants")]
    assert "fp8 is left out" in found.remarks[0]
    with pytest.raises(BadInput, match="w9a9"):
        energy(line, EnergyOptions(drawn=("w9a9",)), silent)
