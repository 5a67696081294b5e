"""Lowered files of two small networks, a device that is this machine, and the emulator where there is one."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
import torch

from benchmarks.arm64.cpus import CPUS
from benchmarks.arm64.emulator import WORK, Emulator, check_host
from export.lower import lower
from export.onnx_export import export_qdq
from export.settings import ExportSettings
from export.targets import get_target
from quant.errors import BadInput
from tests.export.small_models import calibrated_of, images_of, small_cnn, tiny_vit

ROOT = Path(__file__).parents[3]


class Here(Emulator):
    """Runs the program by this machine's Python, in place of the emulator's."""

    def run(self, words: Sequence[str], folder: Path, shown: bool = False) -> str:
        inside = [sys.executable, *(str(folder) if word == WORK else word for word in words[1:])]
        return subprocess.run(inside, cwd=folder, check=True, capture_output=not shown, text=True).stdout


def lowered(folder: Path, kind: str) -> tuple[Path, torch.Tensor]:
    """The `ort-arm64` file of a small network, and images."""
    model, size = (tiny_vit(), 32) if kind == "vit" else (small_cnn(), 16)
    images = images_of(16, 3, size, size)
    _, calibrated = calibrated_of(model, images)
    export_qdq(calibrated, images[:2], folder / "qdq.onnx", ExportSettings(), {})
    lower(folder / "qdq.onnx", calibrated, get_target("ort-arm64"), folder / "model.onnx", {})
    return folder / "model.onnx", images


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    return lowered(tmp_path_factory.mktemp("vit"), "vit")


@pytest.fixture(scope="session")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    return lowered(tmp_path_factory.mktemp("cnn"), "cnn")


@pytest.fixture
def product() -> onnx.ModelProto:
    """``y = 2 x``."""
    text = '<ir_version: 9, opset_import: ["" : 17]> g (float[N, 2] x) => (float[N, 2] y) { y = Add (x, x) }'
    return onnx.parser.parse_model(text)


@pytest.fixture(scope="session")
def emulator() -> Emulator:
    """The one that ``make arm64`` made."""
    try:
        check_host()
    except BadInput as error:
        pytest.skip(str(error))
    roots = [place for place in sorted((ROOT / "build" / "arm64").glob("rootfs-*")) if not place.suffix]
    if not roots:
        pytest.skip("there is no root file system of ARM64 in build/arm64; `make arm64` makes one")
    return Emulator(roots[-1], CPUS["neoverse-n1"])
