"""What a matrix leaves in its folder besides the engines, and what it removes before it begins."""

import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from deploy.sbom import Artefact, Package, installed, sbom
from deploy.tensorrt.cache import MANIFEST, PLAN
from deploy.tensorrt.library import Library
from deploy.tensorrt.matrix.config import LISTS, is_folder_name
from deploy.tensorrt.matrix.outcome import Build, junit_of, markdown
from quant.files import file_sha256, replace_bytes

__all__ = ["begin", "finish"]

SUMS, SBOM, JUNIT, TABLE, SUMMARY = LISTS


def begin(folder: Path, build: Build) -> None:
    """Make the folder ready: nothing of an earlier build is left, and the summary names what is to come.

    The earlier summary says what that was; other files are left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (SUMS, SBOM, JUNIT, TABLE):
        (folder / name).unlink(missing_ok=True)
    for cell in {*_cells_of_summary(folder / SUMMARY), *(outcome.cell.name for outcome in build.outcomes)}:
        _remove_cell(folder, cell)
    _write(folder, SUMMARY, json.dumps(build.to_dict(), indent=1) + "\n")


def finish(folder: Path, build: Build, created: datetime | None) -> None:
    """Write the lists of a build whose cells all had their turn; the checksums last."""
    _write(folder, SBOM, _sbom(build, created))
    _write(folder, JUNIT, junit_of(build))
    _write(folder, TABLE, markdown(build))
    _write(folder, SUMMARY, json.dumps(build.to_dict(), indent=1) + "\n")
    engines = [
        f"{outcome.cell.name}/{name}"
        for outcome in build.outcomes
        if outcome.manifest is not None
        for name in (PLAN, MANIFEST)
    ]
    # The format of sha256sum: the digest, a blank, a blank for text or * for binary, the name.
    lines = (f"{file_sha256(folder / name)}  {name}\n" for name in (*engines, JUNIT, SBOM, SUMMARY, TABLE))
    _write(folder, SUMS, "".join(lines))


def _sbom(build: Build, created: datetime | None) -> str:
    runtime = _runtime(build.library)
    engines = [
        Artefact(
            f"{outcome.cell.name}/{PLAN}",
            outcome.manifest["plan"]["sha256"],
            "machine-learning-model",
            depends_on=(
                Artefact(outcome.cell.origin, outcome.manifest["model"], "machine-learning-model"),
                *runtime,
            ),
        )
        for outcome in build.outcomes
        if outcome.manifest is not None
    ]
    return sbom(build.name, [*engines, *runtime, installed("onnx"), installed("octavo")], created)


def _runtime(library: Library) -> tuple[Package, ...]:
    """The packages an engine needs; the library itself where no Python package brought it."""
    found = tuple(installed(name) for name in library.distributions)
    return found or (Package(library.key, library.version, registry="generic"),)


def _cells_of_summary(path: Path) -> Iterable[str]:
    try:
        told = json.loads(path.read_bytes())["cells"]
        parts = [(cell["model"], cell["variant"], cell["profile"]) for cell in told]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return ["/".join(names) for names in parts if all(is_folder_name(str(name)) for name in names)]


def _remove_cell(folder: Path, cell: str) -> None:
    place = folder / cell
    for name in (PLAN, MANIFEST):
        (place / name).unlink(missing_ok=True)
    for empty in (place, *list(place.parents)[:2]):
        with suppress(OSError):  # there are other files in it
            empty.rmdir()


def _write(folder: Path, name: str, text: str) -> None:
    replace_bytes(folder / name, text.encode())
