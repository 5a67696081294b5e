import copy
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

import octavo
from benchmarks.compare.changes import changes
from benchmarks.compare.conditions import parse_condition
from benchmarks.compare.run import compare_runs
from benchmarks.compare.verdicts import check_all
from benchmarks.results import Summary
from quant.errors import BadInput

Document = dict[str, Any]


def timed(document: Document, seed: int, slower: float = 1.0, calls: int = 100) -> Document:
    """A run on a machine of its own speed, which drifts; ``slower`` is the INT8 variant's own factor.

    Its five processes per variant differ by some 1 %, as real ones do.
    """
    generator = np.random.default_rng(seed)
    speed = generator.uniform(0.7, 1.4) * np.exp(np.cumsum(generator.normal(0, 0.01, calls)))
    document = copy.deepcopy(document)
    for variant, middle in zip(document["variants"][:2], (20.0, 14.0 * slower), strict=True):
        noise = 1 + np.abs(generator.normal(0, 0.04, calls))
        process = np.repeat(np.exp(generator.normal(0, 0.01, 5)), calls // 5)
        samples = middle * speed * noise * process
        (entry,) = variant["latency"] = variant["latency"][:1]
        entry |= {"samples_ms": samples.tolist(), "median_ms": float(np.median(samples))}
    return document


def failed(base: Document, new: Document, *conditions: str) -> list[str]:
    a, b = Summary.model_validate(base), Summary.model_validate(new)
    checks = check_all(a, b, changes(a, b), [parse_condition(text) for text in conditions])
    return [check.title for check in checks if check.failed]


@pytest.mark.parametrize("seed", range(20))
def test_a_slower_variant_is_found_on_a_machine_of_any_speed_and_nothing_else(
    summary_dict: Document, seed: int
) -> None:
    base = timed(summary_dict, 2 * seed)
    condition = "latency_p50 > +5%"
    assert failed(base, timed(summary_dict, 2 * seed + 1), condition) == []
    slower = timed(summary_dict, 2 * seed + 1, slower=1.1)
    assert failed(base, slower, condition) == ["latency_p50 > +5% (batch 1, 2 threads)"]


def test_the_change_of_a_latency_is_that_of_its_ratio_to_the_float_model(summary_dict: Document) -> None:
    a = Summary.model_validate(timed(summary_dict, 0))
    b = Summary.model_validate(timed(summary_dict, 1, slower=1.2))
    (change,) = [c for c in changes(a, b) if c.variant == "int8-ort-x86" and c.metric.name == "latency_p50"]
    logs = [[np.log(np.median(v.latency[0].by_process, axis=1)) for v in s.variants[:2]] for s in (a, b)]
    (ref_a, own_a), (ref_b, own_b) = logs
    test = stats.ttest_ind(own_b - ref_b, own_a - ref_a, equal_var=False)
    assert change.relative == pytest.approx(np.expm1((own_b - ref_b).mean() - (own_a - ref_a).mean()))
    assert change.absolute == pytest.approx(np.median(a.variants[1].latency[0].samples_ms) * change.relative)
    interval = np.expm1([test.confidence_interval(0.95).low, test.confidence_interval(0.95).high])
    assert [change.interval.low, change.interval.high] == pytest.approx(interval)
    (reference,) = [c for c in changes(a, b) if c.variant == "fp32" and c.metric.name == "latency_p50"]
    assert reference.relative == pytest.approx(np.expm1(ref_b.mean() - ref_a.mean()))


@pytest.mark.parametrize(
    ("correct", "expected"),
    [(251, []), (250, []), (247, ["top1 < -1"]), (255, [])],
)
def test_a_point_of_top1(summary_dict: Document, correct: int, expected: list[str]) -> None:
    new = copy.deepcopy(summary_dict)
    new["variants"][1]["accuracy"]["top1"] = correct / 344
    assert failed(summary_dict, new, "top1 < -1") == expected


def test_what_is_no_longer_there_fails(summary_dict: Document) -> None:
    new = copy.deepcopy(summary_dict)
    new["variants"][1]["memory"] = None
    assert failed(summary_dict, new, "memory > 5 %") == ["memory > 5 %"]
    del new["variants"][2]
    assert "is there" in failed(summary_dict, new, "size > 1")


def test_a_layer_that_fell_out_of_integers_is_found(summary_dict: Document) -> None:
    new = copy.deepcopy(summary_dict)
    new["variants"][1]["audit"]["total_share"] -= 0.05
    assert failed(summary_dict, new, "integer_share < -1") == ["integer_share < -1"]


def test_equal_infinities_are_no_change_and_the_json_stays_json(
    tmp_path: Path, summary_dict: Document
) -> None:
    summary_dict["variants"][1]["accuracy"]["sqnr_db"] = "Infinity"
    assert failed(summary_dict, copy.deepcopy(summary_dict), "sqnr < 0", "sqnr > 0") == []
    files = [str(file) for file in written(tmp_path, summary_dict, summary_dict)]
    out = CliRunner().invoke(octavo.app, ["compare", *files, "--json"]).stdout
    (change,) = [c for c in json.loads(out, parse_constant=pytest.fail)["changes"] if c["figure"] == "sqnr"]
    assert (change["base"], change["absolute"]) == ("Infinity", 0.0)


def test_a_latency_without_the_float_models_beside_it_is_compared_as_it_is(summary_dict: Document) -> None:
    new = copy.deepcopy(summary_dict)
    new["variants"][0]["latency"] = None
    a, b = Summary.model_validate(summary_dict), Summary.model_validate(new)
    (change, *_) = [c for c in changes(a, b) if c.variant == "int8-ort-x86" and c.interval is not None]
    assert change.relative == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top1", "is not a condition"),
        ("top1 < -0.5%", "changes by points"),
        ("latency_p5 > 5%", "did you mean 'latency_p50'"),
        ("nonsense > 1", "no figure is called 'nonsense'"),
        ("top1 = 3", "is not a condition"),
    ],
)
def test_conditions_that_are_none(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_condition(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "other"}, "different models"),
        ({"data": "other"}, "different images"),
        ({"variants": 1}, "no variant is in both"),
    ],
)
def test_runs_that_do_not_belong_together(
    tmp_path: Path, summary_dict: Document, change: Document, message: str
) -> None:
    other = copy.deepcopy(summary_dict)
    if "variants" in change:
        other["variants"] = other["variants"][:1]
    else:
        other |= change
    files = written(tmp_path, summary_dict, other)
    with pytest.raises(BadInput, match=message):
        compare_runs(*files)


def test_the_command(tmp_path: Path, summary_dict: Document) -> None:
    new = timed(summary_dict, 1, slower=1.3)
    new["environment"]["packages"]["onnxruntime"] = "1.32.0"
    base, now = written(tmp_path, timed(summary_dict, 0), new)
    ask = ["compare", str(base), str(now), "--fail-if", "latency_p50 > +5%", "--fail-if", "top1 < -0.5"]
    files = ["--junit", str(tmp_path / "j.xml"), "--markdown", str(tmp_path / "c.md"), "--json"]
    result = CliRunner().invoke(octavo.app, [*ask, *files])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["failed"]
    assert [check["failed"] for check in told["checks"]] == [True, False]
    assert "onnxruntime: 1.31.1 → 1.32.0" in told["remarks"]
    suites = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert suites.get("tests") == "2"
    assert suites.get("failures") == "1"
    (failure,) = suites.iter("failure")
    assert "%" in failure.get("message", "")
    text = (tmp_path / "c.md").read_text()
    assert text.count("❌") == 1
    assert "| median latency, batch 1, 2 threads |" in text
    assert CliRunner().invoke(octavo.app, ask[:3]).exit_code == 0
    assert "median latency" in CliRunner().invoke(octavo.app, ask[:3]).stdout


def test_a_noisy_run_is_told(tmp_path: Path, summary_dict: Document) -> None:
    noisy = copy.deepcopy(summary_dict)
    noisy["noise"] = [{"batch": 1, "threads": 2, "ratio": {"value": 1.0, "low": 0.8, "high": 1.2}}]
    found = compare_runs(*written(tmp_path, summary_dict, noisy))
    slow = copy.deepcopy(noisy)
    slow["variants"][1]["latency"][0]["samples_ms"] = [
        3 * ms for ms in slow["variants"][1]["latency"][0]["samples_ms"]
    ]
    assert failed(summary_dict, slow | {"noise": []}, "latency_p50 > 5%")
    assert failed(summary_dict, slow, "latency_p50 > 5%") == []
    assert found.remarks == [
        "new run: too noisy to tell at batch 1, 2 threads: fp32 took 0.80 to 1.20 of its own time"
    ]


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(octavo.app, ["compare", str(tmp_path), str(tmp_path)])
    assert result.exit_code == 2
    assert "summary.json" in result.stderr


def written(folder: Path, *documents: Document) -> list[Path]:
    files = []
    for i, document in enumerate(documents):
        run = folder / f"run{i}"
        run.mkdir()
        (run / "summary.json").write_text(json.dumps(document))
        files.append(run)
    return files
