import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import octavo
from benchmarks.choose import Budget, Choice, choose
from benchmarks.results import Summary
from benchmarks.statistics import ratio_over_processes
from quant.errors import BadInput

Document = dict[str, Any]
ROUNDS = np.abs(np.random.default_rng(0).normal(1, 0.03, (4, 60)))


def variant(document: Document, name: str, ms: float, correct: int, row: int, **entries: Any) -> None:
    """Add a variant that took turns with the float model, whose times are row 0 at 20 ms."""
    new = copy.deepcopy(document["variants"][1])
    times, reference = ms * ROUNDS[row], 20.0 * ROUNDS[0]
    ratio = ratio_over_processes(reference.reshape(5, -1), times.reshape(5, -1))
    speedup = {"value": ratio.value, "low": ratio.low, "high": ratio.high}
    figures = {"samples_ms": times.tolist(), "median_ms": float(np.median(times)), "speedup": speedup}
    new |= {"name": name, "latency": [new["latency"][0] | figures]} | entries
    new["accuracy"] |= {"correct": correct, "top1": correct / 344, "agreement": correct / 344}
    document["variants"].append(new)


def chosen(document: Document, **budget: Any) -> Choice:
    (choice,) = choose(Summary.model_validate(document), Budget(**budget))
    return choice


@pytest.fixture
def run(summary_dict: Document) -> Document:
    """A float model with 254 images right at 20 ms, and two variants: the faster one loses 8 images."""
    summary_dict["variants"] = summary_dict["variants"][:1] + summary_dict["variants"][1:2]
    summary_dict["variants"][0]["latency"][0] |= {
        "samples_ms": (20.0 * ROUNDS[0]).tolist(),
        "median_ms": 20.0,
    }
    variant(summary_dict, "careful", 15.0, 253, 1)
    variant(summary_dict, "quick", 11.0, 246, 2, size_bytes=2**20)
    del summary_dict["variants"][1]
    return summary_dict


def test_the_fastest_within_the_budget(run: Document) -> None:
    assert chosen(run, drop=3.0).name == "quick"
    assert chosen(run, drop=1.0).name == "careful"
    (_, out) = chosen(run, drop=1.0).candidates
    assert "-2.33 points (-8 of 344 images)" in out.text
    assert "more than 1 points" in out.text


def test_of_equally_fast_ones_the_one_closer_to_float(run: Document) -> None:
    variant(run, "as quick", 11.02, 250, 3)
    assert chosen(run, drop=3.0).name == "as quick"


def test_float_where_nothing_is_faster(run: Document) -> None:
    variant(run, "slow", 20.0, 254, 1)
    run["variants"] = [run["variants"][0], run["variants"][-1]]
    choice = chosen(run)
    assert choice.name == "fp32"
    assert "deploy FP32" in choice.text
    assert "not faster than float beyond chance" in choice.candidates[0].text


def test_nothing_is_faster_on_a_machine_too_noisy_to_tell(run: Document) -> None:
    def noise(low: float, high: float) -> list[Document]:
        return [{"batch": 1, "threads": 2, "ratio": {"value": 1.0, "low": low, "high": high}}]

    assert chosen(run | {"noise": noise(0.99, 1.02)}).name == "careful"
    for noisy in (noise(0.7, 1.05), noise(0.99, 1.4)):
        choice = chosen(run | {"noise": noisy})
        assert choice.name == "fp32"
        assert "float differs from itself by up to 1.4" in choice.candidates[0].text


def test_size_and_memory_count(run: Document) -> None:
    assert chosen(run, drop=3.0, size_mib=1.5).name == "quick"
    run["variants"][1]["size_bytes"] = run["variants"][0]["size_bytes"] + 1
    assert chosen(run, drop=1.0, size_mib=23.0).name == "fp32"


def test_float_is_not_the_answer_where_it_is_over_the_budget_itself(run: Document) -> None:
    choice = chosen(run, drop=3.0, memory_mib=90.0)
    assert choice.name is None
    assert "neither does FP32" in choice.text
    variant(run, "slow", 20.0, 254, 3, size_bytes=2**19)
    assert chosen(run, drop=3.0, size_mib=0.75).name == "slow"


def test_a_target_that_was_not_measured(run: Document) -> None:
    run["variants"].append(
        {
            "name": "int8-tensorrt",
            "target": "tensorrt",
            "file": "m.onnx",
            "size_bytes": 3,
            "note": "not run here",
        }
    )
    _, other = choose(Summary.model_validate(run), Budget())
    assert (other.target, other.name) == ("tensorrt", None)


def test_speed_that_was_not_timed(run: Document) -> None:
    with pytest.raises(BadInput, match=r"batch 64.*measured: batch 1 with 2 threads"):
        choose(Summary.model_validate(run), Budget(), batch=64)
    with pytest.raises(BadInput, match="at least 0 points"):
        choose(Summary.model_validate(run), Budget(drop=-1.0))


def test_the_command(tmp_path: Path, run: Document) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(run))
    result = CliRunner().invoke(octavo.app, ["choose", str(tmp_path), "--max-drop", "3", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)[0]["name"] == "quick"
    text = CliRunner().invoke(octavo.app, ["choose", str(tmp_path)]).stdout
    assert "ort-x86: careful" in text
    assert "* careful" in text
