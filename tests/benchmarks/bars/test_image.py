import json
import os
import subprocess
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from benchmarks.bars import image
from benchmarks.bars.container import Container, Engine, find_engine
from deploy.bundle import load_bundle
from quant.errors import BadInput
from tests.deploy.serve.made import make_bundle

INSIDE = {
    "uid": 65532, "capabilities": 0, "no_new_privileges": True, "writable": [], "torch": False, "shells": [],
}  # fmt: skip


class Fake(Container):
    """A container that computes here; what it is told to do wrong, it does."""

    wrong: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, engine: Engine, name: str, bundle: Path) -> None:
        del engine, name
        self._bundle = load_bundle(bundle)
        self.ready_s = self.wrong.get("ready_s", 0.5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def get(self, path: str) -> bytes:
        memory = f"process_resident_memory_bytes {self.wrong.get('memory', 1e8)}\n"
        return {
            "/v2/models": b'{"models": [{"name": "tiny"}]}',
            "/v2/models/tiny": b'{"inputs": [{"name": "input", "datatype": "FP32"}]}',
            "/metrics": f"# TYPE process_resident_memory_bytes gauge\n{memory}".encode(),
        }[path]

    def post(self, path: str, body: dict[str, Any]) -> Any:
        assert path == "/v2/models/tiny/infer"
        (tensor,) = json.loads(json.dumps(body))["inputs"]
        data = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        with self._bundle.runner() as runner:
            (output,) = runner.infer({tensor["name"]: data}).values()
        if self.wrong.get("answer"):
            output[0, 0] = np.nextafter(output[0, 0], np.float32(np.inf))
        return {"outputs": [{"shape": output.shape, "data": output.ravel().tolist()}]}

    def python(self, program: str, environment: object = ()) -> subprocess.CompletedProcess[str]:
        if program == image.LOOK:
            return subprocess.CompletedProcess([], 0, json.dumps({**INSIDE, **self.wrong.get("inside", {})}))
        assert environment
        return subprocess.CompletedProcess([], self.wrong.get("health_code", 1))

    def health(self) -> str:
        return str(self.wrong.get("health", "healthy"))

    def stop(self) -> tuple[int, float]:
        return self.wrong.get("code", 0), self.wrong.get("seconds", 1.0)


class FakeEngine(Engine):
    def inspect(self, what: str, name: str) -> dict[str, Any]:
        del what, name
        return {"Size": Fake.wrong.get("size", 2e8)}


@pytest.mark.parametrize(
    ("wrong", "missed"),
    [
        ({}, []),
        ({"size": 351e6}, ["image, unpacked"]),
        ({"ready_s": 3.1}, ["from `run` to ready, median of 5"]),
        ({"memory": 2.6e8}, ["resident memory after 8 requests"]),
        ({"answer": True}, ["values that differ from ONNX Runtime's in process"]),
        ({"inside": {"uid": 0}}, ["runs as root (1) or not (0)"]),
        ({"inside": {"capabilities": 1}}, ["capabilities"]),
        ({"inside": {"no_new_privileges": False}}, ["no-new-privileges"]),
        ({"inside": {"writable": ["/tmp"]}}, ["folders that can be written"]),
        ({"inside": {"torch": True}}, ["shells, package managers, PyTorch inside"]),
        ({"inside": {"shells": ["/bin/sh"]}}, ["shells, package managers, PyTorch inside"]),
        ({"health": "unhealthy"}, ["health check: healthy"]),
        ({"health_code": 0}, ["health check: fails where nobody answers"]),
        ({"code": 137}, ["exit code after SIGTERM"]),
        ({"seconds": 10.5}, ["from SIGTERM to the end"]),
    ],
)
def test_each_fault_misses_its_own_bar(
    wrong: dict[str, Any], missed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "Container", Fake)
    monkeypatch.setattr(Fake, "wrong", wrong)
    bars = image.image_bars(FakeEngine("podman"), "image", make_bundle(tmp_path / "tiny.zip"))
    assert [bar.what for bar in bars if not bar.reached] == missed


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``docker`` whose daemon is not there, and a ``podman`` that is."""
    for name, code in (("docker", 1), ("podman", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\necho 'cannot do this' >&2\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


@pytest.mark.usefixtures("engines")
def test_the_engine_is_the_first_that_answers() -> None:
    assert find_engine() == Engine("podman")
    with pytest.raises(BadInput, match=r"no container engine answers \(tried: docker\)"):
        find_engine("docker")
    with pytest.raises(BadInput, match="'lxc'; it can be docker or podman"):
        find_engine("lxc")


@pytest.mark.usefixtures("engines")
def test_what_the_engine_refuses_is_told_in_its_words() -> None:
    with pytest.raises(BadInput, match="docker run failed: cannot do this"):
        Engine("docker").call("run", "image")
