"""The one command on a device: what it needs, what it leaves, and what it does when something goes wrong."""

import ast
import hashlib
import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kit import measure as module
from benchmarks.kit.result import Device
from deploy import cpu
from tests.benchmarks.kit.conftest import OTHER, OWN, Measure

FAKE = """
import json, os, time
from pathlib import Path
import numpy as np
__version__ = "fake"

class SessionOptions:
    def add_session_config_entry(self, key, value): pass

class GraphOptimizationLevel:
    ORT_ENABLE_ALL = 99

class Output:
    name = "output"

def has_a_set():
    result = Path(__file__).with_name("result.json")
    return result.exists() and bool(json.loads(result.read_text())["sets"])

class InferenceSession:
    def __init__(self, path, **options):
        self.dies = "int8" in path and os.environ.get("DIES")
        if self.dies == "open":
            raise ValueError("opset 23")
    def get_outputs(self):
        return [Output]
    def run(self, outputs, feeds):
        (images,) = feeds.values()
        if self.dies == "answer" or (self.dies == "call" and len(images) == 1):
            os.kill(os.getpid(), 4)  # an illegal instruction
        if os.environ.get("HOLD") and has_a_set():
            time.sleep(60)
        time.sleep(len(images) * float(os.environ.get("SLOW", 0)))
        return [np.eye(10, dtype=np.float32)[np.arange(len(images)) % 10]]
"""


@pytest.fixture
def fake(kit: Path) -> Path:
    """A kit beside which lies another runtime, which can be slow, can wait and can die."""
    (kit / "onnxruntime.py").write_text(FAKE)
    return kit


def start(bare: Path, kit: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    words = [str(bare), str(kit / "measure.py"), *arguments]
    return subprocess.Popen(
        words,
        cwd=kit,
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs deaf to Ctrl-C, and this test may run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def left(kit: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((kit / "result.json").read_text())
    assert found["sha256"] == module.seal(found)
    return found


def test_it_needs_python_3_9_numpy_and_onnxruntime_alone(packed: Path, bare: Path, result: Path) -> None:
    ast.parse((packed / "measure.py").read_text(), feature_version=(3, 9))
    ours = ["torch", "timm", "pydantic", "onnx", "quant", "export", "deploy", "benchmarks", "octavo"]
    code = f"import importlib.util as u; print([n for n in {ours} if u.find_spec(n)])"
    assert subprocess.check_output([bare, "-I", "-c", code], text=True).strip() == "[]"
    assert json.loads(result.read_text())["finished"] is True


def test_everything_that_figures_are_made_of_is_kept(result: Path, packed: Path) -> None:
    found = json.loads(result.read_text())
    assert found["kit"] == hashlib.sha256((packed / "kit.json").read_bytes()).hexdigest()
    assert found["packages"].keys() == {"numpy", "onnxruntime"}
    assert found["device"]["cpuinfo"]
    assert found["device"]["emulated"] is False
    assert found["before"].keys() == found["after"].keys() == {"celsius", "mhz", "governor"}
    assert found["skipped"].keys() == {OTHER}
    assert {name: one["count"] for name, one in found["answers"].items()} == {"fp32": 40, OWN: 40}
    assert len(found["sets"]) == 2
    for one in found["sets"]:
        assert one.keys() == {"fp32", "fp32 again", OWN}
        for process in one.values():
            assert (len(process["warmup_ms"]), len(process["steady_ms"])) == (1, 4)
            memory = process["footprint"]
            assert 0 < memory["imported_mib"] <= memory["loaded_mib"] <= memory["peak_mib"]


def test_a_damaged_kit_is_not_measured(kit: Path, measure: Measure) -> None:
    model = kit / "models" / OWN / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    for words in (f"models/{OWN}/model.onnx is not what was packed", "No such file"):
        refused = measure(kit)
        assert refused.returncode == 2
        assert len(refused.stderr.splitlines()) == 1
        assert words in refused.stderr
        model.unlink(missing_ok=True)
    (kit / "kit.json").write_text("{")
    refused = measure(kit)
    assert (refused.returncode, "kit.json cannot be read" in refused.stderr) == (2, True)
    assert not (kit / "result.json").exists()


def test_where_it_cannot_write_it_says_so(packed: Path, measure: Measure, tmp_path: Path) -> None:
    refused = measure(packed, "--out", tmp_path / "nowhere" / "result.json")
    assert refused.returncode == 2
    assert "No such file or directory" in refused.stderr.splitlines()[-1]


def test_without_the_packages_it_says_what_to_install(packed: Path, bare: Path) -> None:
    refused = subprocess.run([bare, "-S", packed / "measure.py"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr == f"measure.py: not installed: {bare} -m pip install numpy onnxruntime\n"


def test_an_older_python_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "PYTHON", (99, 0))
    assert module.main() == 2
    assert capsys.readouterr().err.startswith("measure.py: needs Python 3.9 or later, this is ")


def test_a_model_that_cannot_be_opened_costs_the_others_nothing(kit: Path, measure: Measure) -> None:
    (kit / "models" / OWN / "model.onnx").write_bytes(b"no model")
    about = json.loads((kit / "kit.json").read_text())
    about["files"][f"models/{OWN}/model.onnx"] = hashlib.sha256(b"no model").hexdigest()
    (kit / "kit.json").write_text(json.dumps(about))
    done = measure(kit)
    assert done.returncode == 0
    assert f"{OWN}: FAILED" in done.stderr
    found = left(kit)
    assert found["errors"].keys() == {OWN}
    assert "protobuf" in found["errors"][OWN].lower()
    assert "packed with" not in found["errors"][OWN], "the runtime is the same"
    assert [one.keys() for one in found["sets"]] == 2 * [{"fp32", "fp32 again"}]


def test_an_older_runtime_is_named_where_it_does_not_know_a_model(fake: Path, bare: Path) -> None:
    assert start(bare, fake, DIES="open").wait(60) == 0
    made = json.loads((fake / "kit.json").read_text())["onnxruntime"]
    assert left(fake)["errors"] == {OWN: f"by onnxruntime fake, packed with {made}: opset 23"}


@pytest.mark.parametrize("when", ["answer", "call"])
def test_a_process_that_dies_costs_the_others_nothing(fake: Path, bare: Path, when: str) -> None:
    process = start(bare, fake, DIES=when)
    assert process.wait(60) == 0
    found = left(fake)
    assert found["errors"] == {OWN: "the process that ran it ended by SIGILL:"}
    assert (OWN in found["answers"]) == (when == "call")
    assert [one.keys() for one in found["sets"]] == 2 * [{"fp32", "fp32 again"}]


def test_a_slow_device_answers_less_and_makes_fewer_calls_in_two_processes(fake: Path, bare: Path) -> None:
    assert start(bare, fake, "--minutes", "0.02", SLOW="0.01").wait(60) == 0
    found = left(fake)
    assert found["finished"]
    assert 16 <= found["answers"][OWN]["count"] <= found["answers"]["fp32"]["count"] < 40
    assert (len(found["sets"]), found["settings"]["calls"]) == (2, 2)


def test_an_interrupted_measurement_goes_on(fake: Path, bare: Path) -> None:
    process = start(bare, fake, HOLD="in the second set")
    for _ in range(600):
        if (fake / "result.json").exists() and left(fake)["sets"]:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    before = left(fake)
    assert (before["finished"], len(before["sets"])) == (False, 1)
    other = start(bare, fake, "--threads", "2")
    assert other.wait(60) == 2
    assert "was begun on another device or with other settings" in other.communicate()[1]
    assert left(fake) == before
    assert start(bare, fake).wait(60) == 0
    after = left(fake)
    assert after["finished"]
    assert len(after["sets"]) == 2
    assert [after[part] for part in ("answers", "created")] == [
        before[part] for part in ("answers", "created")
    ]
    assert after["sets"][0] == before["sets"][0]
    again = start(bare, fake)
    assert again.wait(60) == 2
    assert "is finished; to measure again" in again.communicate()[1]


def test_unguarded_weights_run_on_exact_kernels_where_the_cpu_has_no_vnni(packed: Path) -> None:
    def opened(flags: str) -> tuple[dict[str, str], list[dict[str, str]]]:
        entries = json.loads((packed / "kit.json").read_text())["variants"]
        for entry in entries:
            entry["exact"] = {"session.x64quantprecision": "1"} if entry["name"] == OWN else {}
        return module._exact(entries, {"flags": flags}), [entry["session"]["config"] for entry in entries]

    assert set(module.VNNI) == cpu._VNNI, "what the rest of the product goes by"
    assert opened("fma avx512_vnni avx2") == ({}, [{}, {}, {}, {}])
    remarks, configs = opened("fma avx2")
    assert remarks.keys() == {OWN}
    assert [config for config in configs if config] == [{"session.x64quantprecision": "1"}]


def test_an_arm_board_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("processor\t: {}", "Features\t: asimd asimddp", "CPU implementer\t: 0x41", "CPU part\t: {}\n")
    core = "\n".join(lines)
    told = {
        "/proc/cpuinfo": "\n".join(
            [core.format(0, "0xd05"), core.format(1, "0xd0b"), "Serial\t\t: 10000000abcd"]
        ),
        "/proc/device-tree/model": "Example Board 5\0",
    }
    monkeypatch.setattr(module, "_read", lambda path: told.get(str(path)))
    found = Device.model_validate(module._device())
    assert found.cpuinfo == {"Features": "asimd asimddp", "CPU implementer": "0x41", "CPU part": "0xd05"}
    assert (found.parts, found.name) == (("0xd05", "0xd0b"), "Example Board 5")
    assert found.model_copy(update={"board": ""}).name == "implementer 0x41, part 0xd05, 0xd0b"


def test_another_file_is_not_overwritten(kit: Path, measure: Measure) -> None:
    (kit / "result.json").write_text('{"mine": 1}')
    refused = measure(kit)
    assert (refused.returncode, "is not a measurement of this kit" in refused.stderr) == (2, True)
    assert (kit / "result.json").read_text() == '{"mine": 1}'
