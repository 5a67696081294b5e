"""A device's raw result becomes the figures that the main harness would have made."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bench import BenchSettings, Candidate, bench_accuracy
from benchmarks.kit.content import Answers
from benchmarks.kit.measure import seal
from benchmarks.kit.merge import merge
from benchmarks.kit.record import record_path
from benchmarks.kit.samples import choose
from benchmarks.report.cells import Grid, label
from benchmarks.report.devices import device_grids
from benchmarks.report.runs import load_runs
from deploy.onnxruntime.run import OrtRunner
from deploy.pipeline.line import open_run
from quant.errors import BadInput
from tests.benchmarks.kit.conftest import OTHER, OWN, Measure
from tests.octavo.project import call

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def changed(result: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """A result as another device might have sent it."""

    def make(change: Change) -> Path:
        content = json.loads(result.read_text())
        change(content)
        content["sha256"] = seal(content)
        path = tmp_path / "result.json"
        path.write_text(json.dumps(content))
        return path

    return make


def test_accuracy_is_exactly_that_of_the_main_harness(run: Path, packed: Path, result: Path) -> None:
    found = merge(run, result).summary
    about = json.loads((packed / "kit.json").read_text())
    files = {v["name"]: packed / v["file"] for v in reversed(about["variants"]) if v["name"] != OTHER}
    candidates = [Candidate(name, file) for name, file in files.items()]
    samples = choose(open_run(run), 40)
    expected = bench_accuracy(candidates, lambda: samples.batches(16), BenchSettings())
    assert {v.name: v.accuracy for v in found.variants} == expected
    assert expected[OWN].n == 40


def test_times_and_memory_are_summarized_as_the_main_harness_does(run: Path, result: Path) -> None:
    summary, raw = merge(run, result).summary, json.loads(result.read_text())
    own = next(v for v in summary.variants if v.name == OWN)
    assert own.latency is not None
    assert own.memory is not None
    (latency,) = own.latency
    steady = [one[OWN]["steady_ms"] for one in raw["sets"]]
    assert latency.by_process.tolist() == steady
    assert latency.median_ms == pytest.approx(np.median(steady))
    base = [np.median(one["fp32"]["steady_ms"]) for one in raw["sets"]]
    ratios = [b / np.median(one) for b, one in zip(base, steady, strict=True)]
    assert latency.speedup is not None
    assert latency.speedup.value == pytest.approx(np.exp(np.mean(np.log(ratios))))
    assert own.memory.peak_mib == min(one[OWN]["footprint"]["peak_mib"] for one in raw["sets"])
    assert summary.noise_at(1, 1) is not None
    assert summary.environment.packages == raw["packages"]
    assert summary.environment.isa


def test_a_device_stands_beside_the_host_in_one_report(
    run: Path, result: Path, tmp_path: Path, changed: Callable[[Change], Path]
) -> None:
    second = changed(lambda r: r["device"].update(cpuinfo={}, board="Example Board 5"))
    done = call("report", run, result, second, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "Across devices; accuracy on the same 40 samples" in done.stdout
    page, text = ((tmp_path / "out" / f"report.{kind}").read_text() for kind in ("html", "md"))
    for written in (page, text):
        assert "Across devices; accuracy on the same 40 samples" in written
        assert "Example Board 5" in written
    assert "Example Board 5 · INT8" in page
    assert "Logits off by" in text


def _parts(grid: Grid) -> list[list[tuple[str, ...]]]:
    """The table's rows: the host's, then each device's."""
    parts: list[list[tuple[str, ...]]] = []
    for row in grid.rows:
        if len(row) == 1:
            parts.append([])
        parts[-1].append(row)
    return parts


def test_an_emulated_device_has_answers_and_no_times(
    run: Path, packed: Path, result: Path, measure: Measure, tmp_path: Path
) -> None:
    out = tmp_path / "emulated.json"
    done = measure(packed, "--emulated", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "no times and no memory are measured" in done.stderr
    raw = json.loads(out.read_text())
    assert (raw["device"]["emulated"], raw["sets"]) == (True, [])
    for variant in merge(run, out).summary.variants:
        assert variant.accuracy is not None
        assert variant.latency is variant.memory is None
        assert "times and memory would be the emulator's" in (variant.note or "")
    runs = load_runs([run, out, result])
    (grid,) = device_grids(runs)
    host, emulated, real = (
        next(row for row in part if len(row) > 1 and row[0] == label(OWN)) for part in _parts(grid)
    )
    assert emulated[1:5] == real[1:5]
    assert emulated[5:] == ("emulated", "–", "–")
    assert all(" ms" in row[5] for row in (host, real))  # the host's are those of the device that was timed
    report = call("report", run, out, "--out", tmp_path / "report")
    assert report.exit_code == 0, report.output
    text = (tmp_path / "report" / "report.md").read_text()
    assert ", emulated" in text
    assert "times and memory would be the emulator's" in text


def test_times_that_an_emulated_device_sends_are_not_shown(
    run: Path, changed: Callable[[Change], Path]
) -> None:
    path = changed(lambda r: r["device"].update(emulated=True))
    found = merge(run, path).summary
    assert (
        {variant.latency for variant in found.variants}
        == {variant.memory for variant in found.variants}
        == {None}
    )
    assert found.noise == ()


def test_the_table_across_devices_judges_all_on_the_same_samples(
    run: Path, result: Path, changed: Callable[[Change], Path]
) -> None:
    def slower(content: dict[str, Any]) -> None:
        content["device"].update(cpuinfo={}, board="Example Board 5")
        some = Answers.of(Answers(**content["answers"][OWN]).logits[:16])
        content["answers"][OWN] = some.model_dump()

    runs = load_runs([run, result, changed(slower)])
    (grid,) = device_grids(runs)
    assert grid.title.endswith("the same 16 samples")
    assert [row[0] for row in grid.rows if len(row) == 1] == [
        "run, the host",
        runs[1].name,
        "Example Board 5",
    ]
    samples = choose(open_run(run), 40)
    with OrtRunner(run / OWN / "model.onnx") as runner:
        logits = runner.infer({"input": samples.inputs[:16]})["output"]
    right = f"{100 * np.mean(np.argmax(logits, axis=1) == samples.labels[:16]):.1f}%"
    rows = [row for row in grid.rows if len(row) > 1 and row[0] == label(OWN)]
    assert [row[1] for row in rows] == [right] * 3
    assert [row[3:5] for row in rows] == [("–", "–"), ("100.0%", "0"), ("100.0%", "0")]


def test_a_variant_that_failed_is_a_row_that_says_why(run: Path, changed: Callable[[Change], Path]) -> None:
    def fail(content: dict[str, Any]) -> None:
        del content["answers"][OWN]
        content["sets"] = [{k: v for k, v in one.items() if k != OWN} for one in content["sets"]]
        content["errors"][OWN] = "no kernel"

    path = changed(fail)
    own = next(v for v in merge(run, path).summary.variants if v.name == OWN)
    assert (own.note, own.accuracy, own.latency) == ("failed there: no kernel", None, None)
    (grid,) = device_grids(load_runs([run, path]))
    assert "failed" in grid.rows[-1]

    def fail_float(content: dict[str, Any]) -> None:
        del content["answers"]["fp32"]
        content["errors"]["fp32"] = "killed"

    with pytest.raises(BadInput, match=r"fp32, which others are compared with, was not measured: killed"):
        merge(run, changed(fail_float))


def test_what_is_no_result_of_this_run_is_refused(
    run: Path, result: Path, tmp_path: Path, changed: Callable[[Change], Path]
) -> None:
    edited = tmp_path / "edited.json"
    edited.write_text(result.read_text().replace('"count": 40', '"count": 39'))
    with pytest.raises(BadInput, match="was changed since it was measured"):
        load_runs([run, edited])
    cut = tmp_path / "cut.json"
    cut.write_bytes(result.read_bytes()[:5000])
    with pytest.raises(BadInput, match="is damaged; copy it from the device again"):
        load_runs([run, cut])
    with pytest.raises(BadInput, match=r"is not finished; run measure.py on the device again"):
        load_runs([run, changed(lambda r: r.update(finished=False))])
    with pytest.raises(BadInput, match=r"is no result that this Octavo can read: device.cores"):
        load_runs([run, changed(lambda r: r["device"].update(cores="many"))])
    with pytest.raises(BadInput, match=r"processes made \[4\] calls, not 3"):
        load_runs([run, changed(lambda r: r["settings"].update(calls=3))])
    with pytest.raises(BadInput, match="their number differs"):
        load_runs([run, changed(lambda r: r["answers"][OWN].update(outputs=20, count=20))])
    with pytest.raises(BadInput, match="name that, too"):
        load_runs([result])
    with pytest.raises(BadInput, match="given twice"):
        load_runs([run, result, result])
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(run / "summary.json", other)
    with pytest.raises(BadInput, match=r"with a kit of another run than .*other"):
        load_runs([other, result])


def test_a_run_that_was_made_again_is_not_the_kits(run: Path, result: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    assert len(load_runs([copy, result])) == 2
    (copy / OWN / "model.onnx").write_bytes(b"another")
    with pytest.raises(BadInput, match=rf"{OWN}/model.onnx: is not the file that the kit has"):
        load_runs([copy, result])
    record = record_path(copy, json.loads(result.read_text())["kit"])
    record.write_text(record.read_text().replace("vit_tiny", "vit_base"))
    with pytest.raises(BadInput, match="was changed; pack the kit again"):
        load_runs([copy, result])
