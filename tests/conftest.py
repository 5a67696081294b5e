"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

from deploy.tensorrt.library import Library, find_library


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    """Keep PyTorch from taking every core of a machine that others share."""
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of models and images: `$OCTAVO_DATA`, or `../shared/data` beside the repository.

    Where it is absent the test is skipped, or fails if `OCTAVO_REQUIRE_DATA=1`.
    """
    root = Path(__file__).resolve().parents[1]
    folder = (root / (os.environ.get("OCTAVO_DATA") or "../shared/data")).resolve()
    if folder.is_dir():
        return folder
    reason = f"the data folder {folder} is absent; set OCTAVO_DATA"
    if os.environ.get("OCTAVO_REQUIRE_DATA") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def rtx() -> Library:
    pytest.importorskip(
        "tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed: pip install 'octavo[rtx]'"
    )
    return find_library("tensorrt_rtx")
