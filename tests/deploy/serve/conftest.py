from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.serve.made import Served, make_bundle, served


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Path:
    return make_bundle(folder / "tiny.zip")


@pytest.fixture(scope="module")
def server(folder: Path, bundle: Path) -> Iterator[Served]:
    """A server of a model of images, ``tiny-int8``, and one of arrays, ``arrays``."""
    arrays = make_bundle(folder / "arrays.zip", images=False, size=(4,), variant="fp32")
    with served(folder, str(bundle), f"arrays={arrays}", "--max-request-mib", "1") as server:
        yield server
