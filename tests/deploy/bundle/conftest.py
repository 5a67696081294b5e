import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.bundle.runs import array_project, image_project, packed
from tests.octavo.project import Project


def _run(folder: Path, make: Callable[[Path], Project]) -> Iterator[Path]:
    sys.path.insert(0, str(folder))
    project = make(folder)
    result = project.run()
    assert result.exit_code == 0, result.output
    yield project.out
    sys.path.remove(str(folder))
    for name in ("octavo_test_models", "octavo_test_answers"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from _run(tmp_path_factory.mktemp("images"), image_project)


@pytest.fixture(scope="session")
def array_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from _run(tmp_path_factory.mktemp("arrays"), array_project)


@pytest.fixture(scope="session")
def bundle_zip(image_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(image_run, tmp_path_factory.mktemp("bundle") / "int8.zip", license="MIT").path


@pytest.fixture(scope="session")
def bundle_folder(image_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(image_run, tmp_path_factory.mktemp("bundle") / "int8", license="MIT").path
