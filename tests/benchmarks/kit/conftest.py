"""A small run for both targets of ONNX Runtime, its kit, and a Python with numpy and ONNX Runtime alone.

And a device with a GPU, of which TensorRT and pycuda are stand-ins in NumPy (``fakes``).
"""

import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from benchmarks.kit.pack import pack
from benchmarks.run_variants import RUN_ON
from tests.octavo.project import call

PACKAGES = ("numpy", "onnxruntime", "flatbuffers", "google", "packaging")  # the two, and what they import
OWN, OTHER = sorted((f"int8-{t}" for t in RUN_ON), key=lambda v: platform.machine() not in RUN_ON[v[5:]])
SIZES = {"img_size": 32, "patch_size": 8, "in_chans": 1, "embed_dim": 24, "depth": 1, "num_heads": 3}
SETTINGS = {
    "model": {
        "name": "vit_tiny_patch16_224",
        "kwargs": SIZES | {"num_classes": 10},
    },
    "calibration": {"kind": "digits", "split": "calibration", "limit": 16},
    "validation": {"kind": "digits", "split": "validation", "limit": 60},
    "targets": ["ort-x86", "ort-arm64"],
    "export": {"parity": "warn"},
    "bench": {"processes": 2, "warmup": 1, "calls": 4, "turn": 2},
}

FAKES = Path(__file__).with_name("fakes")
Measure = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]


def finished(process: subprocess.Popen[str], status: int = 0) -> str:
    """What it said."""
    said = process.communicate(timeout=120)[1]
    assert process.returncode == status, said
    return said


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    out = folder / "run"
    stages = (("export", out), ("lower", out), ("bench", out))
    for verb in (("quantize", folder / "config.yaml", "--out", out), *stages):
        result = call(*verb)
        assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kit as a folder."""
    return pack(run, tmp_path_factory.mktemp("packed") / "kit", samples=40).path


@pytest.fixture
def kit(packed: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(packed, tmp_path / "kit"))


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has numpy, ONNX Runtime and what those need, and nothing of ours."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in PACKAGES:
        spec = find_spec(name)
        for place in map(Path, (spec and spec.submodule_search_locations) or ()):
            (site / name).symlink_to(place)
            libraries = place.with_name(f"{name}.libs")
            if libraries.is_dir():
                (site / libraries.name).symlink_to(libraries)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def measure(bare: Path) -> Measure:
    """Run a kit's one command as on a device."""

    def start(kit: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        words = [str(bare), "-I", str(kit / "measure.py"), *map(str, arguments)]
        return subprocess.run(words, cwd=kit, capture_output=True, text=True, timeout=120)

    return start


@pytest.fixture(scope="session")
def result(packed: Path, measure: Measure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished result."""
    out = tmp_path_factory.mktemp("device") / "result.json"
    done = measure(packed, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="session")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device: a Python with numpy alone, and where its path leads, TensorRT, pycuda and what these need."""
    folder = tmp_path_factory.mktemp("gpu")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    shutil.copytree(FAKES, folder / "fakes")
    for name in ("numpy", "onnx", "ml_dtypes", "google", "typing_extensions"):
        spec = find_spec(name)
        assert spec is not None
        places = spec.submodule_search_locations or [str(spec.origin)]
        for place in map(Path, places):
            home = site if name == "numpy" else folder / "fakes"
            (home / place.name).symlink_to(place)
            if (libraries := place.with_name(f"{name}.libs")).is_dir():
                (home / libraries.name).symlink_to(libraries)
    return folder


@pytest.fixture(scope="session")
def start(gpu: Path) -> Start:
    """Begin a kit's one command on that device, or with another Python beside its GPU."""

    def begin(
        kit: Path, *arguments: object, python: Path | None = None, **variables: str
    ) -> subprocess.Popen[str]:
        found = {"PYTHONPATH": str(gpu / "fakes"), "FAKE_LOG": str(gpu / "log")}
        found["PATH"] = f"{gpu / 'fakes' / 'bin'}:{os.environ['PATH']}"
        words = [
            str(python or gpu / "venv" / "bin" / "python"),
            str(kit / "measure.py"),
            *map(str, arguments),
        ]
        return subprocess.Popen(
            words,
            cwd=kit,
            env={**found, **variables},
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return begin
