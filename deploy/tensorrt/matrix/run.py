"""Build all cells of a matrix. One that fails does not stop the others."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from deploy.sbom import source_date
from deploy.tensorrt.build import EngineSettings, check_settings
from deploy.tensorrt.cache import EngineCache
from deploy.tensorrt.engines import build_engine, check_builds_here, lay
from deploy.tensorrt.library import Library, find_library
from deploy.tensorrt.matrix.artefacts import begin, finish
from deploy.tensorrt.matrix.cells import Cell, cells_of
from deploy.tensorrt.matrix.config import load_matrix
from deploy.tensorrt.matrix.outcome import Build, Outcome
from quant.errors import BadInput, Unsupported
from quant.progress import Progress, silent

__all__ = ["build_matrix"]


def build_matrix(
    path: Path,
    folder: Path,
    cache: EngineCache,
    library: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    progress: Progress = silent,
) -> Build:
    """Build the engines of a matrix: ``<model>/<variant>/<profile>/engine.plan``, and lists of them.

    Whatever an earlier build left in the folder is replaced; its engines come from the cache. Nothing is
    touched before the whole matrix is known to be in order.

    Args:
        path: the matrix as YAML, see :class:`deploy.tensorrt.matrix.config.MatrixConfig`.
        folder: where everything goes.
        cache: where engines are kept.
        library: instead of the one that the matrix names.
        say: told what happens.
        progress: told the builder's phases.

    Raises:
        BadInput: the matrix is not in order.
        Unsupported: the library is not installed, or needs a GPU that is not here.
    """
    config = load_matrix(path)
    found = find_library(library or config.library)
    check_builds_here(found)
    try:
        for name, profile in config.profiles.items():
            _check_profile(name, profile.settings, found)
        cells = cells_of(config)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    created = source_date()
    build = Build(path.stem, found, [Outcome(cell) for cell in cells])
    begin(folder, build)
    outcomes = []
    for number, cell in enumerate(cells, start=1):
        say(f"build {cell.name} ({number} of {len(cells)})")
        outcome = _timed(cell, folder, cache, found.key, config.timeout_s, progress)
        say(f"build {cell.name}: {outcome.text}")
        outcomes.append(outcome)
    done = replace(build, outcomes=outcomes)
    finish(folder, done, created)
    return done


def _check_profile(name: str, settings: EngineSettings, library: Library) -> None:
    try:
        check_settings(settings, library)
    except BadInput as error:
        raise BadInput(f"profiles.{name}: {error}") from error


def _timed(
    cell: Cell,
    folder: Path,
    cache: EngineCache,
    library: str,
    timeout_s: float | None,
    progress: Progress,
) -> Outcome:
    start = time.perf_counter()
    try:
        engine = build_engine(cell.source, cell.settings, cache, library, timeout_s, progress)
    except (BadInput, Unsupported) as error:
        return Outcome(cell, "failed", time.perf_counter() - start, message=" ".join(str(error).split()))
    place = folder / cell.name
    place.mkdir(parents=True, exist_ok=True)
    lay(engine, place, cell.measured)
    return Outcome(cell, "built" if engine.fresh else "cached", time.perf_counter() - start, engine.manifest)
