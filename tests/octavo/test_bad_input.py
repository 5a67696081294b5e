"""What the command line says to bad input, full disks and Ctrl-C."""

import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from typer.testing import Result

from tests.octavo.project import Project, call, check_refused


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
    return "int9", "(did you mean 'int8'?)"


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
    assert again.stderr.count("nothing has changed, skipped") == 8
    assert (project.out / "summary.json").is_file()
