"""A run whose float model is exported, and peers that are scripts of the tests."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import tools  # noqa: F401  # registers the peers that tests put others beside
from benchmarks.peers.registry import PEERS, Peer
from tests.octavo.project import Project, call

COPY = """
import shutil, sys, os, signal, time
from pathlib import Path
import numpy as np
from benchmarks.peers.scripts.peer_protocol import Job, main

def quantize(job):
    options = job.options
    if "calls" in options:
        with open(options["calls"], "a") as file:
            print(os.getpid(), file=file)
    if "keep" in options:
        np.save(options["keep"], np.concatenate([next(iter(feed.values())) for feed in job.feeds()]))
    Path("litter").touch()
    print("copying", flush=True)
    time.sleep(options.get("sleep", 0))
    match options.get("do", "copy"):
        case "copy":
            shutil.copyfile(job.model, job.out / "model.onnx")
        case "fail":
            raise ValueError("no such\\n  operator")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "garbage":
            (job.out / "model.onnx").write_bytes(b"not a model")

main(quantize, ("numpy", "no-such-distribution"))
"""


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A run up to the export; tests write to folders of their own."""
    folder = tmp_path_factory.mktemp("exported")
    sys.path.insert(0, str(folder))
    project = Project(folder)
    project.settings["targets"] = ["ort-x86"]
    for verb in (("quantize", project.config, "--out", project.out), ("export", project.out)):
        result = call(*verb)
        assert result.exit_code == 0, result.output
    yield project
    sys.path.remove(str(folder))
    sys.modules.pop("octavo_test_models", None)


@pytest.fixture
def add_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Peer]:
    """Register a peer whose script does what its options say."""
    script, requirements = tmp_path / "fake_tool.py", tmp_path / "nothing.txt"
    script.write_text(COPY)
    requirements.write_text("")

    def add(name: str, **options: Any) -> Peer:
        peer = Peer(name, "Copy", "none", "onnxruntime", script, requirements, lambda _: options)
        monkeypatch.setitem(PEERS, name, peer)
        return peer

    return add
