"""The analysis ``allocation`` on the digits example."""

from typing import Any

import pytest
import torch

from benchmarks.analyses.allocation import AllocationOptions, allocation
from benchmarks.analyses.findings import Findings
from benchmarks.metrics import agreement
from deploy.pipeline.line import Line
from quant.calibrate import calibrate
from quant.data.batches import batches
from quant.encoding import Encoding, freeze
from quant.errors import BadInput
from quant.mixed.sensitivity.kl import kl
from quant.progress import silent
from tests.benchmarks.analyses.conftest import plain_recipe

BUDGETS = [
    {"kind": "energy", "value": 0.85, "relative_to": 8},
    {"kind": "mean_bits", "value": 6},
]
CONTENDERS = [
    {"name": "thresholds", "metric": "kl", "solver": "thresholds"},
    {"name": "milp", "metric": "kl"},
    {"name": "nuclear", "metric": "nuclear_norm"},
]


def options(**changes: Any) -> AllocationOptions:
    fields = {"budgets": BUDGETS, "contenders": CONTENDERS, "images": 8, "judged": 48, "keep": {"head": 8}}
    return AllocationOptions.model_validate(fields | changes)


@pytest.fixture(scope="module")
def found(digits: Line) -> Findings:
    return allocation(digits, options(), silent)


def choices(found: Findings) -> dict[tuple[str, str | None], dict[str, Any]]:
    values: Any = found.figures["choices"]
    return {(row["name"], row["budget"]): row for row in values}


def test_every_choice_keeps_its_budget_and_the_program_predicts_no_more_loss(found: Findings) -> None:
    by_name = choices(found)
    eight = by_name["uniform 8", None]
    limits = {
        "energy 0.85 of 8 bits": ("energy_mj", 0.85 * eight["energy_mj"]),
        "mean bits 6": ("mean_bits", 6),
    }
    for budget, (key, limit) in limits.items():
        rule, program = by_name["thresholds", budget], by_name["milp", budget]
        assert rule[key] <= limit * (1 + 1e-9)
        assert program[key] <= rule[key] * (1 + 1e-6)  # the solver's own tolerance
        assert program["predicted_kl"] <= rule["predicted_kl"] * (1 + 1e-6)
        assert by_name["nuclear", budget][key] <= rule[key] * (1 + 1e-6)
        assert rule["difference"] is None
        assert program["difference"][0] <= program["kl"] - rule["kl"] <= program["difference"][1]


def test_the_measured_loss_is_that_of_the_recipe_alone(digits: Line, found: Findings) -> None:
    wide = digits.recipes[0].specs
    narrow_specs = {name: spec.model_copy(update={"bits": 4}) for name, spec in wide.items()}
    kept = {"linear.input": "input8", "linear.weight": "weight8"}
    recipe = plain_recipe(
        specs=narrow_specs | {f"{name}8": spec for name, spec in wide.items()},
        overrides=[{"modules": "head", "roles": kept}],
    )
    every = list(batches(digits.validation, digits.loaded.preprocessing, 16))
    learned = [batch.images for batch in batches(digits.calibration, digits.loaded.preprocessing, 16)]
    calibrated = calibrate(digits.graph, recipe, lambda _: learned)
    freeze(calibrated, Encoding())
    with torch.no_grad():
        plain, narrow = (torch.cat([g(b.images) for b in every]) for g in (digits.graph, calibrated.graph))
    row = choices(found)["uniform 4", None]
    assert row["kl"] == pytest.approx(float(kl(plain.double(), narrow.double()).mean()), rel=1e-5)
    same = agreement(narrow.argmax(1).numpy(), plain.argmax(1).numpy())
    assert row["agreement"] == pytest.approx(same)
    labels = torch.cat([batch.labels for batch in every])
    assert row["top1"] == pytest.approx(float((narrow.argmax(1) == labels).float().mean()))
    assert (row["mean_bits"], row["bits"]) == (pytest.approx(4), [4] * len(row["bits"]))


def test_the_tables_have_every_layer(digits: Line, found: Findings) -> None:
    chosen, bits, sensitivity = found.tables
    layers = {"patch_embed.proj", "blocks.0.attn.qkv", "blocks.3.mlp.fc2"}
    assert len(bits.rows) == len(sensitivity.rows) == 17  # the head is kept
    assert layers <= {row[0] for row in bits.rows}
    assert bits.columns[2:4] == ("thresholds, energy 0.85 of 8 bits", "milp, energy 0.85 of 8 bits")
    assert [row[0] for row in chosen.rows[:3]] == ["uniform 4", "uniform 6", "uniform 8"]
    by_name = choices(found)
    column = bits.columns.index("milp, mean bits 6")
    assert [row[column] for row in bits.rows] == by_name["milp", "mean bits 6"]["bits"]
    # Fewer bits never lose less on their own, up to the sampling of 8 images.
    first = sensitivity.columns.index("kl, 4 bits")
    assert sum(row[first] for row in sensitivity.rows) > sum(row[first + 2] for row in sensitivity.rows)  # type: ignore[misc]
    assert [drawing.name for drawing in found.drawings] == ["loss_energy", "loss_bits", "sensitivity"]
    # Nothing stays quantized behind the analysis.
    with torch.no_grad():
        image = digits.example
        torch.testing.assert_close(digits.calibrated(digits.recipes[0]).graph(image), digits.graph(image))


def test_what_cannot_be_asked_is_refused(digits: Line) -> None:
    with pytest.raises(BadInput, match="unknown sensitivity metric"):
        allocation(digits, options(contenders=[{"name": "a", "metric": "nucular_norm"}]), silent)
    with pytest.raises(BadInput, match="nothing to decide"):
        allocation(digits, options(keep={"*": 8}), silent)
    with pytest.raises(ValueError, match="different names"):
        options(contenders=[CONTENDERS[0], CONTENDERS[0]])
