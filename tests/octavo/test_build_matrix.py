"""`octavo build --matrix` on a finished run."""

import json
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer.main
import yaml
from typer.testing import Result

import octavo
from deploy.tensorrt.matrix.cells import cells_of
from deploy.tensorrt.matrix.config import load_matrix
from quant.files import file_sha256
from tests.octavo.project import ROOT, Project, call, check_refused


@pytest.fixture
def matrix(tmp_path: Path, finished: tuple[Project, Result], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two variants of the run, and a cache of its own."""
    pytest.importorskip(
        "tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: pip install 'octavo[rtx]'"
    )
    monkeypatch.setenv("OCTAVO_ENGINES", str(tmp_path / "cache"))
    return write(tmp_path, finished[0].out)


def write(folder: Path, run: Path, **more: object) -> Path:
    settings = {
        "library": "tensorrt_rtx",
        "models": {"two": str(run)},
        "variants": ["fp16", "int8"],
        "profiles": {"single": {"batches": [1, 1, 1]}},
    }
    path = folder / "builds.yaml"
    path.write_text(yaml.safe_dump(settings | more))
    return path


def test_one_broken_model_among_good_ones_ends_with_1(matrix: Path, finished: tuple[Project, Result]) -> None:
    folder, run = matrix.parent, finished[0].out
    (folder / "broken.onnx").write_bytes((run / "fp32/model.onnx").read_bytes()[:1000])
    write(folder, run, models={"broken": "broken.onnx", "two": str(run)})
    out = folder / "out"
    result = call("build", "--matrix", matrix, "--out", out)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    for variant in ("fp16", "int8"):
        cell = out / "two" / variant / "single"
        manifest = json.loads((cell / "engine.json").read_text())
        assert manifest["measured"]["accuracy"]["n"] == 12
        assert manifest["model"] == file_sha256(run / f"{variant}-tensorrt" / "model.onnx")
        assert manifest["plan"]["sha256"] == file_sha256(cell / "engine.plan")
        assert f"{cell}: " in result.stdout
    assert not (out / "broken").exists()
    failed = {case.get("classname") for case in _cases(out) if case.find("failure") is not None}
    assert failed == {"broken.onnx"}
    assert len(_cases(out)) == 3
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=out, check=True)

    (folder / "broken.onnx").write_bytes((run / "fp32/model.onnx").read_bytes())
    again = call("build", "--matrix", matrix, "--out", out, "--json")
    assert again.exit_code == 0, again.output
    cells = json.loads(again.stdout)["cells"]
    assert [cell["status"] for cell in cells] == ["built", "cached", "cached"]


def _cases(out: Path) -> list[ElementTree.Element]:
    return list(ElementTree.parse(out / "junit.xml").getroot().iter("testcase"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_build_that_was_stopped_goes_on(
    matrix: Path, finished: tuple[Project, Result], how: signal.Signals
) -> None:
    out = matrix.parent / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "octavo", "build", "--matrix", str(matrix), "--out", str(out)],
        env=finished[0].environment(),
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
        if line == "build two/int8/single (2 of 2)\n":
            process.send_signal(how)
            break
    said += process.stderr.readlines()
    process.wait()
    watchdog.cancel()
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL), said
    assert not (out / "SHA256SUMS").exists()
    assert [cell["status"] for cell in _summary(out)] == ["pending", "pending"]

    again = call("build", "--matrix", matrix, "--out", out)
    assert again.exit_code == 0, again.output
    assert [cell["status"] for cell in _summary(out)] == ["cached", "built"]
    assert "two/fp16/single: 0." in again.stdout
    assert "from the cache" in again.stdout
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=out, check=True)


def _summary(out: Path) -> list[dict[str, object]]:
    cells: list[dict[str, object]] = json.loads((out / "summary.json").read_text())["cells"]
    return cells


def test_wrong_requests_are_refused_in_one_line_before_anything_is_built(
    matrix: Path, finished: tuple[Project, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = finished[0].out, tmp_path / "out"
    asked = ("build", "--matrix", matrix, "--out", out)
    check_refused(call("build"), "either RUN", "--matrix")
    check_refused(call("build", run, "--matrix", matrix), "either RUN")
    check_refused(call("build", run, "--out", out), "--out goes with --matrix")
    check_refused(call(*asked, "--batches", "1,1,1"), "--batches", "`profiles`")
    check_refused(call(*asked, "--variant", "int8"), "`variants`")
    check_refused(call(*asked, "--target", "tensorrt8"), "--target", "go with RUN")
    check_refused(call("build", "--matrix", tmp_path / "gone.yaml"), "gone.yaml: cannot be read")
    check_refused(call(*asked, "--library", "onnx"), "unknown library 'onnx'")
    write(tmp_path, run, variants=["fp16", "int4"])
    check_refused(call(*asked), "models.two", "no variant 'int4'", "it has fp32, fp16, int8")
    write(tmp_path, tmp_path)
    check_refused(call(*asked), "models.two", "is not the folder of a run")
    write(tmp_path, run, profiles={"single": {"batches": [8, 1, 1]}})
    check_refused(call(*asked), "profiles.single", "fewest ≤ usual ≤ most")
    write(tmp_path, run)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "now")
    check_refused(call(*asked), "SOURCE_DATE_EPOCH")
    assert not out.exists()
    assert not (tmp_path / "cache").exists()


def test_the_example_workflow_runs_commands_that_exist_on_a_matrix_that_loads(
    finished: tuple[Project, Result], tmp_path: Path
) -> None:
    workflow = yaml.safe_load((ROOT / "examples/builds/github-workflow.yml").read_text())
    steps = workflow["jobs"]["engines"]["steps"]
    lines = [line for step in steps for line in step.get("run", "").splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("octavo ")]
    group = typer.main.get_command(octavo.app)
    verbs = getattr(group, "commands")  # noqa: B009  # only groups have them
    parsed = {verb: verbs[verb].make_context(verb, list(rest)).params for verb, *rest in commands}
    assert list(parsed) == ["run", "build"]
    config, made, builds = parsed["run"]["config"], parsed["run"]["out"], parsed["build"]["matrix"]
    assert (ROOT / config).is_file()
    assert load_matrix(ROOT / builds).models["digits"].resolve() == (ROOT / made).resolve()
    uploaded = [step["with"]["path"] for step in steps if "upload-artifact" in step.get("uses", "")]
    assert uploaded == [str(parsed["build"]["out"]), f"{parsed['build']['out']}/junit.xml"]
    kept = {step["with"]["path"] for step in steps if "cache/" in step.get("uses", "")}
    assert {f"${{{{ github.workspace }}}}/{path}" for path in kept} == {
        workflow["jobs"]["engines"]["env"]["OCTAVO_ENGINES"]
    }

    # The same matrix beside a run that is there.
    (tmp_path / builds).parent.mkdir(parents=True)
    (tmp_path / builds).write_text((ROOT / builds).read_text())
    (tmp_path / made).parent.mkdir()
    (tmp_path / made).symlink_to(finished[0].out)
    assert [cell.name for cell in cells_of(load_matrix(tmp_path / builds))] == [
        "digits/fp16/single",
        "digits/int8/single",
        "digits/int8/batched",
        "plain/onnx/single",
    ]
