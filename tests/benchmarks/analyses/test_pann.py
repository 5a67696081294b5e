"""The analysis ``pann`` on the digits example, against the method of that name."""

from typing import Any

import pytest
import torch

from benchmarks.analyses.added import AddedGraph
from benchmarks.analyses.findings import Findings
from benchmarks.analyses.pann import PannOptions, pann
from deploy.pipeline.line import Line
from quant.calibrate import calibrate
from quant.calibrated import CalibratedGraph
from quant.census import take_census
from quant.data.batches import batches
from quant.encoding import Encoding, freeze
from quant.energy.additions import added_layers
from quant.energy.pann import Candidate
from quant.errors import Unsupported
from quant.progress import silent
from tests.benchmarks.analyses.conftest import plain_recipe


@pytest.fixture(scope="module")
def found(digits: Line) -> Findings:
    options = PannOptions(budgets=(2, 4), activation_bits=(3, 6, 8), images=8, judged=48, checked=4)
    return pann(digits, options, silent)


def rows(found: Findings, index: int) -> list[dict[str, Any]]:
    table = found.tables[index]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def calibrated_with(line: Line, **changes: Any) -> CalibratedGraph:
    learned = [batch.images for batch in batches(line.calibration, line.loaded.preprocessing, 16)]
    return calibrate(line.graph, plain_recipe(**changes), lambda _: learned)


def test_the_layers_are_those_of_the_method(digits: Line) -> None:
    specs = {name: spec.model_dump() for name, spec in plain_recipe().specs.items()}
    specs["input"]["bits"] = 6
    method = calibrated_with(digits, specs=specs, methods=[{"name": "pann", "budget_bits": 4}])
    freeze(method, Encoding())
    graph = AddedGraph(digits.calibrated(digits.recipes[0]), [6])
    layers = graph.add(Candidate(6, 24 / 6 - 0.5))
    images = next(iter(batches(digits.validation, digits.loaded.preprocessing, 8))).images
    with torch.no_grad():
        # Both round the same values to the same grids; sums are taken in the same order.
        torch.testing.assert_close(graph.calibrated.graph(images), method.graph(images))
    graph.formats.all_float()
    assert layers == added_layers(method, take_census(digits.graph))


def test_every_budget_has_its_ways_and_one_of_them_is_measured(found: Findings) -> None:
    budgets = rows(found, 0)
    assert [row["bit flips, P"] for row in budgets] == [10] * 4 + [24] * 4
    ways = [row for row in budgets if row["additions, R"] is not None]
    assert [row["additions, R"] for row in ways] == pytest.approx(
        [10 / 3 - 0.5, 10 / 6 - 0.5, 0.75, 7.5, 3.5, 2.5]
    )
    for budget in (10, 24):
        own = [row for row in ways if row["bit flips, P"] == budget]
        (measured,) = (row for row in own if row["KL"] is not None)
        assert measured["KL, calibration"] == min(row["KL, calibration"] for row in own)
        # Rounding moves R, and with it the energy, by a few percent at R near 1.
        (multiplied,) = (
            row for row in budgets if row["additions, R"] is None and row["bit flips, P"] == budget
        )
        assert measured["arithmetic, mJ"] == pytest.approx(multiplied["arithmetic, mJ"], rel=0.1)
    assert ways[0]["arithmetic, mJ"] < ways[3]["arithmetic, mJ"]


def test_more_bit_flips_lose_less_and_additions_less_than_narrow_multipliers(found: Findings) -> None:
    two, narrow, four, _ = (row["KL"] for row in rows(found, 0) if row["KL"] is not None)
    assert four < two < narrow


def test_unsigned_sums_are_the_signed_ones(found: Findings) -> None:
    checked = rows(found, 1)
    assert len(checked) == 18
    assert all(row["sums that differ"] == 0 for row in checked)
    assert checked[0]["products of a sum"] == 64  # patches of 8 × 8
    assert all(0 < row["largest half, % of 32 bits"] < 100 for row in checked)


def test_a_recipe_without_integers_to_add_is_refused(digits: Line) -> None:
    narrow = {"bits": 4, "signed": True, "symmetric": True}
    specs = {"input": {"bits": 8}, "weight": narrow}
    with pytest.raises(Unsupported, match="8 bits, signed and symmetric"):
        AddedGraph(calibrated_with(digits, specs=specs), [8])
