"""A quantized model for TensorRT."""

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.bars.small_model import small_model


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"), Console(quiet=True))
