"""Ways to spoil an engine or its manifest; see :mod:`benchmarks.bars.corrupt_bytes`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.random import Generator

from benchmarks.bars.corrupt_bytes import BYTES
from deploy.tensorrt.cache import MANIFEST, PLAN

__all__ = ["ENGINES", "EngineChange"]

EngineChange = Callable[[Path, Generator], None]

ENGINES: dict[str, EngineChange] = {}
"""Name to change of an engine's folder."""

_DEPTH = 100_000  # more than json reads


def _register(change: EngineChange) -> EngineChange:
    ENGINES[change.__name__.strip("_")] = change
    return change


def _of_bytes(file: str, name: str) -> None:
    def change(folder: Path, rng: Generator) -> None:
        path = folder / file
        path.write_bytes(BYTES[name](path.read_bytes(), rng))

    ENGINES[f"{file}: {name}"] = change


for _file in (PLAN, MANIFEST):
    for _name in ("truncate", "flip_bytes", "overwrite_span", "remove_span", "insert_bytes"):
        _of_bytes(_file, _name)


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_bytes())
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


@_register
def _no_plan(folder: Path, _: Generator) -> None:
    (folder / PLAN).unlink()


@_register
def _empty_plan(folder: Path, _: Generator) -> None:
    (folder / PLAN).write_bytes(b"")


@_register
def _plan_is_a_folder(folder: Path, _: Generator) -> None:
    (folder / PLAN).unlink()
    (folder / PLAN).mkdir()


@_register
def _manifest_of_another_kind(folder: Path, rng: Generator) -> None:
    kinds = [b"null", b"[]", b"7", b'"text"', b"{}", b"\xff\xfe", b"[" * _DEPTH]
    (folder / MANIFEST).write_bytes(kinds[int(rng.integers(len(kinds)))])


@_register
def _manifest_nested_too_deep(folder: Path, _: Generator) -> None:
    (folder / MANIFEST).write_bytes(b'{"plan":' + b"[" * _DEPTH + b"]" * _DEPTH + b"}")


@_register
def _manifest_without_a_key(folder: Path, rng: Generator) -> None:
    def drop(manifest: dict[str, Any]) -> None:
        del manifest[str(rng.choice(sorted(manifest)))]

    _edit(folder, drop)


@_register
def _manifest_of_another_model(folder: Path, _: Generator) -> None:
    _edit(folder, lambda manifest: manifest.update(model="0" * 64))


@_register
def _manifest_of_another_library(folder: Path, _: Generator) -> None:
    _edit(folder, lambda manifest: manifest.update(version="0.0.1"))


@_register
def _manifest_of_another_device(folder: Path, _: Generator) -> None:
    _edit(folder, lambda manifest: manifest.update(device="NVIDIA T4 (SM75)"))


@_register
def _manifest_of_other_settings(folder: Path, _: Generator) -> None:
    _edit(folder, lambda manifest: manifest["settings"].update(batches=[1, 1, 9]))


@_register
def _manifest_of_another_plan(folder: Path, _: Generator) -> None:
    _edit(folder, lambda manifest: manifest["plan"].update(sha256="0" * 64))
