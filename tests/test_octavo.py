"""The command line, used as a person uses it, on a model of two linear layers."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

import octavo
from benchmarks.results import load_summary

ROOT = Path(octavo.__file__).resolve().parent
MODELS = """
import os, sys, time
import torch
from torch import nn
from quant.data.csv_source import CsvSource
from quant.data.sources import register_source

class Two(nn.Module):
    num_classes = 3
    def __init__(self, nan=False, branch=False):
        super().__init__()
        self.first, self.second = nn.Linear(192, 64), nn.Linear(64, 3)
        self.act, self.branch = nn.GELU(), branch
        if nan:
            self.first.bias.data[5] = float("nan")
    def forward(self, x):
        x = self.first(x.flatten(1))
        if self.branch and x.sum() > 0:
            x = -x
        return self.second(self.act(x))

@register_source("slow_csv")
class Slow(CsvSource):
    def __getitem__(self, index):
        if os.environ.get("SLOW"):
            print("decoding", file=sys.stderr, flush=True)
            time.sleep(0.2)
        return super().__getitem__(index)
"""


class Project:
    """A folder with a model, images and a configuration that `change` edits."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "run"
        (folder / "octavo_test_models.py").write_text(MODELS)
        generator = np.random.default_rng(0)
        rows = ["file,class_index"]
        for i in range(12):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
            rows.append(f"{i}.png,{i % 3}")
        (folder / "labels.csv").write_text("\n".join(rows))
        self.settings: dict[str, Any] = {
            "model": {
                "name": "octavo_test_models:Two",
                "preprocessing": {"input_size": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3},
            },
            "calibration": {"kind": "csv", "path": "labels.csv"},
            "validation": {"kind": "slow_csv", "path": "labels.csv"},
            "targets": ["ort-x86", "tensorrt"],
            # A flip of one of these few outputs would be too large a share of them.
            "export": {"parity": "warn"},
            "bench": {"warmup": 1, "calls": 3, "memory_repeats": 1},
        }

    def change(self, section: str, **entries: Any) -> None:
        self.settings[section] = self.settings.get(section, {}) | entries

    @property
    def config(self) -> Path:
        path = self.folder / "run.yaml"
        path.write_text(yaml.safe_dump(self.settings))
        return path

    def run(self) -> Result:
        return call("run", self.config, "--out", self.out)

    def environment(self, **more: str) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}", "OMP_NUM_THREADS": "1"} | more

    def left(self) -> list[str]:
        """What is in the run's folder, besides the copy of the configuration and stamps."""
        files = (p for p in self.out.rglob("*") if p.is_file())
        names = (p.relative_to(self.out).as_posix() for p in files)
        return sorted(
            n for n in names if n != "config.yaml" and not (n.startswith(".octavo/") and n.endswith(".json"))
        )


def call(*arguments: object) -> Result:
    return CliRunner().invoke(octavo.app, [str(a) for a in arguments])


def check_refused(result: Result, *words: str) -> None:
    """One line, exit code 2, no traceback."""
    assert result.exit_code == 2, result.output
    complaint = [line for line in result.stderr.splitlines() if line.startswith("octavo: ")]
    assert len(complaint) == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in complaint[0]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Project(tmp_path)
    sys.modules.pop("octavo_test_models", None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Result]]:
    """A run that went through."""
    folder = tmp_path_factory.mktemp("finished")
    sys.path.insert(0, str(folder))
    project = Project(folder)
    result = project.run()
    assert result.exit_code == 0, result.output
    yield project, result
    sys.path.remove(str(folder))
    sys.modules.pop("octavo_test_models", None)


def test_a_run_leaves_every_promised_file(finished: tuple[Project, Result]) -> None:
    project, result = finished
    variant = ["audit.json", "lowering.json", "model.onnx", "parity.json"]
    assert project.left() == sorted(
        ["fp32/model.onnx", "int8/calibration.safetensors", "int8/qdq.onnx"]
        + [f"int8-ort-x86/{name}" for name in variant]
        + [f"int8-tensorrt/{name}" for name in variant[1:]]
        + ["report.html", "report.md", "summary.json"]
    )
    summary = load_summary(project.out / "summary.json")
    fp32, x86, tensorrt = summary.variants
    assert [v.name for v in summary.variants] == ["fp32", "int8-ort-x86", "int8-tensorrt"]
    assert all((project.out / v.file).stat().st_size == v.size_bytes for v in summary.variants)
    assert fp32.accuracy is not None
    assert fp32.accuracy.n == 12
    assert x86.audit is not None
    assert x86.audit["model"] == "int8-ort-x86/model.onnx"
    assert x86.parity is not None
    assert tensorrt.accuracy is None
    assert tensorrt.note == "exported and checked; not run here"
    assert summary.settings["calibration_batch"] == 16
    assert "Top-1 accuracy" in result.stdout


def test_the_models_say_where_they_come_from(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    model = onnx.load(project.out / "int8-ort-x86" / "model.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["octavo.model"] == "octavo_test_models:Two"
    assert about["octavo.num_classes"] == "3"
    assert json.loads(about["octavo.preprocessing"])["input_size"] == [3, 8, 8]
    assert json.loads(about["octavo.recipe"])["name"] == "int8"
    assert json.loads(about["octavo.versions"])["torch"] == version("torch")
    assert about["octavo.target"] == "ort-x86"


def test_a_second_run_skips_everything_and_changes_nothing(finished: tuple[Project, Result]) -> None:
    project, first = finished
    before = {
        name: (project.out / name).stat().st_mtime_ns for name in project.left() if "report" not in name
    }
    again = project.run()
    assert again.exit_code == 0
    steps = first.stderr.splitlines()
    assert again.stderr.count("nothing has changed, skipped") == 7
    assert "skipped" not in "".join(steps)
    assert before == {name: (project.out / name).stat().st_mtime_ns for name in before}


def test_single_verbs_make_the_same_models_byte_for_byte(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    out = project.folder / "verbs"
    assert call("quantize", project.config, "--out", out).exit_code == 0
    for verb in ("export", "lower"):  # each reads back what the one before left
        result = call(verb, out)
        assert result.exit_code == 0, result.output
    for name in ("fp32/model.onnx", "int8/qdq.onnx", "int8-ort-x86/model.onnx", "int8-tensorrt/model.onnx"):
        assert (out / name).read_bytes() == (project.out / name).read_bytes(), name


def test_the_copied_configuration_makes_the_same_run(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    again = call("run", project.out / "config.yaml", "--out", project.out)
    assert again.exit_code == 0
    assert again.stderr.count("nothing has changed, skipped") == 7


def test_bench_prints_json_and_nothing_else(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    result = call("bench", project.out, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["variants"][0]["name"] == "fp32"


def test_bench_measures_again_when_forced(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    before = load_summary(project.out / "summary.json").created
    assert call("bench", project.out, "--force").exit_code == 0
    assert load_summary(project.out / "summary.json").created > before


def test_audit_prints_json_or_a_table(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    model = project.out / "int8-ort-x86" / "model.onnx"
    found = call("audit", model, "--target", "ort-x86", "--json")
    assert {m["module"] for m in json.loads(found.stdout)["multiplications"]} == {"first", "second"}
    assert found.stderr == ""
    assert "of the linear and convolution MACs" in call("audit", model).stdout


def test_report_is_drawn_again(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    (project.out / "report.html").unlink()
    assert call("report", project.out).exit_code == 0
    assert "INT8 (ort-x86)" in (project.out / "report.md").read_text()
    assert (project.out / "report.html").read_text().startswith("<!")


def test_a_changed_setting_does_only_what_depends_on_it(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    project.change("bench", calls=4)
    again = project.run()
    assert again.stderr.count("nothing has changed, skipped") == 6
    assert "\nbench\n" in again.stderr


def test_an_edited_model_is_quantized_again(project: Project) -> None:
    assert call("quantize", project.config, "--out", project.out).exit_code == 0
    code = project.folder / "octavo_test_models.py"
    code.write_text(code.read_text().replace("nn.GELU()", "nn.SiLU()"))
    sys.modules.pop("octavo_test_models")
    again = call("quantize", project.config, "--out", project.out)
    assert again.exit_code == 0
    assert "skipped" not in again.stderr
    # What was exported before the edit cannot be mixed with it.
    code.write_text(code.read_text().replace("nn.SiLU()", "nn.ReLU()"))
    sys.modules.pop("octavo_test_models")
    check_refused(call("export", project.out), "another model", "quantize again")


def test_a_changed_file_is_made_again(finished: tuple[Project, Result]) -> None:
    project, _ = finished
    model = project.out / "int8-ort-x86" / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[:100])
    check_refused(call("bench", project.out), "'lower int8-ort-x86' is not done", "octavo lower")
    assert call("lower", project.out).exit_code == 0
    assert model.read_bytes() == whole


def test_a_fixed_batch_goes_through_the_whole_line(project: Project) -> None:
    project.change("export", dynamic_batch=False)
    project.change("bench", batch_sizes=[1, 4])
    result = project.run()
    assert result.exit_code == 0, result.output
    (batch, *_) = (
        onnx.load(project.out / "int8-ort-x86" / "model.onnx").graph.input[0].type.tensor_type.shape.dim
    )
    assert batch.dim_value == 1
    fp32, x86, _ = load_summary(project.out / "summary.json").variants
    assert fp32.latency is not None
    assert [entry.batch for entry in fp32.latency] == [1]
    assert x86.accuracy is not None
    assert x86.accuracy.n == 12


@pytest.mark.parametrize("verb", ["export", "lower", "bench", "report"])
def test_a_verb_says_what_has_to_come_first(project: Project, verb: str) -> None:
    project.out.mkdir()
    check_refused(call(verb, project.out), str(project.out))


def truncated_image(project: Project) -> tuple[str, ...]:
    image = project.folder / "7.png"
    image.write_bytes(image.read_bytes()[:60])
    return "7.png", "labels.csv line 9"


def label_that_is_no_number(project: Project) -> tuple[str, ...]:
    table = project.folder / "labels.csv"
    table.write_text(table.read_text().replace("4.png,1", "4.png,cat"))
    return "labels.csv line 6", "'cat'"


def label_the_model_does_not_have(project: Project) -> tuple[str, ...]:
    table = project.folder / "labels.csv"
    table.write_text(table.read_text().replace("4.png,1", "4.png,3"))
    return "labels.csv line 6", "3 classes allow 0 to 2"


def weights_that_do_not_match(project: Project) -> tuple[str, ...]:
    tensors = {"first.weight": torch.zeros(64, 100), "first.bias": torch.zeros(64)}
    safetensors.torch.save_file(tensors, project.folder / "w.safetensors")
    project.change("model", weights="w.safetensors")
    return "w.safetensors", "first.weight (checkpoint [64, 100], model [64, 192])", "second.weight"


def pickled_checkpoint(project: Project) -> tuple[str, ...]:
    torch.save(Path("anything"), project.folder / "w.pt")
    project.change("model", weights="w.pt")
    return "w.pt", "refused"


def missing_weights(project: Project) -> tuple[str, ...]:
    project.change("model", weights="w.safetensors")
    return "w.safetensors", "does not exist"


def data_dependent_model(project: Project) -> tuple[str, ...]:
    project.change("model", kwargs={"branch": True})
    return "torch.export refuses the model", "ata-dependent"


def nan_in_activations(project: Project) -> tuple[str, ...]:
    project.change("model", kwargs={"nan": True})
    return "'act'", "NaN"


def empty_calibration_set(project: Project) -> tuple[str, ...]:
    (project.folder / "none.csv").write_text("file,class_index\n")
    project.change("calibration", path="none.csv")
    return "none.csv", "lists no images"


def unknown_recipe_key(project: Project) -> tuple[str, ...]:
    (project.folder / "mine.yaml").write_text("name: mine\nspecs: {}\nrolez: {}\nroles: {}\n")
    project.settings["recipe"] = "mine.yaml"
    return "mine.yaml", "unknown key 'rolez' (did you mean 'roles'?)"


def unknown_recipe(project: Project) -> tuple[str, ...]:
    project.settings["recipe"] = "int9"
    return "int9", "shipped: int8"


def unknown_key(project: Project) -> tuple[str, ...]:
    project.settings["calibratoin"] = {}
    return "run.yaml", "unknown key 'calibratoin' (did you mean 'calibration'?)"


def unknown_key_in_a_section(project: Project) -> tuple[str, ...]:
    project.change("bench", batch_size=[1])
    return "run.yaml, bench", "unknown key 'batch_size' (did you mean 'batch_sizes'?)"


def old_opset(project: Project) -> tuple[str, ...]:
    project.change("export", opset=13)
    return "run.yaml, export", "opset 13", "20"


def unknown_target(project: Project) -> tuple[str, ...]:
    project.settings["targets"] = ["ort-x68"]
    return "ort-x68", "ort-x86"


def two_recipes_of_one_name(project: Project) -> tuple[str, ...]:
    project.settings["recipe"] = ["int8", "int8"]
    return "different names", "int8"


@pytest.mark.parametrize(
    "spoil",
    [
        truncated_image,
        label_that_is_no_number,
        label_the_model_does_not_have,
        weights_that_do_not_match,
        pickled_checkpoint,
        missing_weights,
        data_dependent_model,
        nan_in_activations,
        empty_calibration_set,
        unknown_recipe_key,
        unknown_recipe,
        unknown_key,
        unknown_key_in_a_section,
        old_opset,
        unknown_target,
        two_recipes_of_one_name,
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    project: Project, spoil: Callable[[Project], tuple[str, ...]]
) -> None:
    words = spoil(project)
    check_refused(project.run(), *words)
    assert project.left() == []


def test_a_repaired_input_goes_on(project: Project) -> None:
    whole = (project.folder / "7.png").read_bytes()
    truncated_image(project)
    assert call("quantize", project.config, "--out", project.out).exit_code == 2
    (project.folder / "7.png").write_bytes(whole)
    assert call("quantize", project.config, "--out", project.out).exit_code == 0
    assert project.left() == ["int8/calibration.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["audit", "nothing.onnx"], "nothing.onnx"),
        (["audit", "pyproject.toml", "--shape", "input=axb"], "NAME=SIZExSIZE"),
        (["run", "nothing.yaml", "--out", "run"], "nothing.yaml"),
        (["quantise"], "quantise"),
    ],
)
def test_wrong_arguments_end_with_2(arguments: list[str], word: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert word in result.stderr


def test_a_folder_that_cannot_be_written_is_named(project: Project) -> None:
    (project.folder / "file").write_text("")
    project.out = project.folder / "file" / "run"
    check_refused(project.run(), str(project.folder / "file"))


def test_our_own_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("deploy.pipeline.quantize.calibrate", broken)
    result = project.run()
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError)
    assert not list(project.out.rglob("partial"))


def test_a_full_disk_leaves_nothing_half_written_and_a_rerun_goes_on(project: Project) -> None:
    command = [sys.executable, "-m", "octavo", "run", str(project.config), "--out", str(project.out)]
    # The float model has 50 kB of weights and does not fit, the calibration does.
    limit = 20_000
    done = subprocess.run(
        command,
        env=project.environment(PYTHONDONTWRITEBYTECODE="1"),
        cwd=project.folder,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "no disk space" in done.stderr
    assert "Traceback" not in done.stderr
    assert project.left() == ["int8/calibration.safetensors"]
    again = call("export", project.out)
    assert again.exit_code == 0, again.output


def test_ctrl_c_leaves_nothing_half_written_and_a_rerun_goes_on(
    project: Project, finished: tuple[Project, Result]
) -> None:
    command = [sys.executable, "-m", "octavo", "run", str(project.config), "--out", str(project.out)]
    process = subprocess.Popen(
        command,
        env=project.environment(SLOW="1"),
        cwd=project.folder,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs deaf to Ctrl-C, and this test may run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line == "decoding\n":
            process.send_signal(signal.SIGINT)
            break
    said += process.stderr.readlines()
    process.wait()
    watchdog.cancel()
    assert process.returncode == 130, said
    assert "interrupted" in said[-1]
    assert "Traceback" not in "".join(said)
    left = project.left()
    for name in ("fp32/model.onnx", "int8/qdq.onnx", "int8-ort-x86/model.onnx", "int8-tensorrt/model.onnx"):
        # Another process, with another hash seed, writes the same bytes.
        assert (project.out / name).read_bytes() == (finished[0].out / name).read_bytes(), name
    assert not [name for name in left if "summary" in name or "part" in name]
    again = project.run()
    assert again.exit_code == 0, again.output
    assert again.stderr.count("nothing has changed, skipped") == 6
    assert (project.out / "summary.json").is_file()


def test_help_answers_without_loading_torch() -> None:
    code = "import sys, octavo\ntry:\n octavo.main()\nfinally:\n assert 'torch' not in sys.modules, 'torch'"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for verb in ("run", "quantize", "export", "lower", "bench", "audit", "report"):
        assert verb in done.stdout


def test_a_package_from_elsewhere_is_named_before_it_is_imported(tmp_path: Path) -> None:
    fake = tmp_path / "benchmarks"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise SystemExit('imported')")
    done = subprocess.run(
        [sys.executable, str(ROOT / "octavo.py"), "--help"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"'benchmarks' comes from {fake}" in line
    assert str(ROOT / "benchmarks") in line
