"""Fixtures: a project, and one that was run."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from tests.octavo.project import Project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Project(tmp_path)
    sys.modules.pop("octavo_test_models", None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Result]]:
    """A run that went through."""
    folder = tmp_path_factory.mktemp("finished")
    sys.path.insert(0, str(folder))
    project = Project(folder)
    result = project.run()
    assert result.exit_code == 0, result.output
    yield project, result
    sys.path.remove(str(folder))
    sys.modules.pop("octavo_test_models", None)
