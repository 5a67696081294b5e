"""Engines kept: whole or not at all, each built once, bounded in size."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.tensorrt.build import EngineSettings
from deploy.tensorrt.cache import MANIFEST, PLAN, Engine, EngineCache, Identity, default_cache
from quant.errors import BadInput

IDENTITY = Identity("0" * 64, "tensorrt_rtx", "1.7", None, EngineSettings())


def writes(content: bytes, count: Path | None = None, wait: float = 0.0) -> object:
    def make(plan: Path) -> None:
        if count is not None:
            with count.open("a") as file:
                file.write("x")
        plan.write_bytes(content[: len(content) // 2])
        time.sleep(wait)
        plan.write_bytes(content)

    return make


def get(root: Path, identity: Identity, content: bytes = b"plan" * 100, **options: object) -> Engine:
    return EngineCache(root).get(identity, writes(content, **options))  # type: ignore[arg-type]


def left(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if not path.name.endswith(".lock"))


def test_an_engine_is_built_once(tmp_path: Path) -> None:
    first = get(tmp_path, IDENTITY)
    again = get(tmp_path, IDENTITY, b"another")
    assert (first.fresh, again.fresh) == (True, False)
    assert again.plan.read_bytes() == b"plan" * 100
    assert again.manifest["library"] == "tensorrt_rtx"
    assert again.manifest["plan"]["bytes"] == 400
    assert left(tmp_path) == [IDENTITY.key]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "1" * 64},
        {"library": "tensorrt"},
        {"version": "1.8"},
        {"device": "NVIDIA H100 (SM90)"},
        {"settings": EngineSettings(batches=(1, 2, 8))},
        {"settings": EngineSettings(refit=True)},
    ],
)
def test_whatever_it_depends_on_makes_another_engine(change: dict[str, object], tmp_path: Path) -> None:
    get(tmp_path, IDENTITY)
    other = replace(IDENTITY, **change)  # type: ignore[arg-type]
    assert EngineCache(tmp_path).find(other) is None
    assert get(tmp_path, other, b"other").plan.read_bytes() == b"other"


@pytest.mark.parametrize("file", [PLAN, MANIFEST])
@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_a_damaged_entry_is_no_hit_and_is_built_again(file: str, damage: str, tmp_path: Path) -> None:
    path = get(tmp_path, IDENTITY).folder / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-5] if damage == "truncated" else content.replace(b"p", b"q"))
    assert EngineCache(tmp_path).find(IDENTITY) is None
    again = get(tmp_path, IDENTITY)
    assert again.fresh
    assert EngineCache(tmp_path).find(IDENTITY) is not None
    assert left(tmp_path) == [IDENTITY.key]


def test_a_manifest_of_brackets_without_end_is_no_hit(tmp_path: Path) -> None:
    (get(tmp_path, IDENTITY).folder / MANIFEST).write_bytes(b'{"plan":' + b"[" * 100_000)
    assert EngineCache(tmp_path).find(IDENTITY) is None


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fails(plan: Path) -> None:
        plan.write_bytes(b"half")
        raise BadInput("no")

    with pytest.raises(BadInput, match="no"):
        EngineCache(tmp_path).get(IDENTITY, fails)
    assert left(tmp_path) == []


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, limit_bytes=1000)
    identities = [replace(IDENTITY, version=str(i)) for i in range(3)]
    for i, identity in enumerate(identities[:2]):
        folder = cache.get(identity, writes(b"x" * 450)).folder  # type: ignore[arg-type]
        os.utime(folder, (1000 + i, 1000 + i))
    assert cache.find(identities[0]) is not None  # used just now
    cache.get(identities[2], writes(b"x" * 450))  # type: ignore[arg-type]
    assert [cache.find(identity) is not None for identity in identities] == [True, False, True]
    huge = replace(IDENTITY, version="huge")
    assert cache.get(huge, writes(b"x" * 5000)).plan.is_file()  # type: ignore[arg-type]
    assert left(tmp_path) == [huge.key], "what was just built stays"


def test_shrinking_spares_what_is_being_built_and_clears_what_killed_builders_left(tmp_path: Path) -> None:
    building, left_by = replace(IDENTITY, version="building"), replace(IDENTITY, version="killed")
    seen: list[bool] = []

    def make(plan: Path) -> None:
        plan.write_bytes(b"x" * 900)
        orphan = tmp_path / f".partial-{left_by.key}-1"
        orphan.mkdir()
        (orphan / PLAN).write_bytes(b"half")
        EngineCache(tmp_path, limit_bytes=1).get(IDENTITY, writes(b"y"))  # type: ignore[arg-type]
        seen.extend([plan.is_file(), orphan.exists()])

    EngineCache(tmp_path).get(building, make)
    assert seen == [True, False]
    assert EngineCache(tmp_path).find(building) is not None


def _build(root: Path, count: Path, ready: Path) -> None:
    while not ready.exists():  # an Event is no use: one that is killed inside it keeps its locks for ever
        time.sleep(0.001)
    engine = get(root, IDENTITY, count=count, wait=0.05)
    assert engine.plan.read_bytes() == b"plan" * 100


@pytest.mark.parametrize("seed", range(3))
def test_builders_side_by_side_one_of_them_killed(seed: int, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, count = tmp_path / "ready", tmp_path / "count"
    root = tmp_path / "cache"
    builders = [context.Process(target=_build, args=(root, count, ready), daemon=True) for _ in range(8)]
    for builder in builders:
        builder.start()
    ready.touch()
    time.sleep(0.01 + 0.02 * seed)
    os.kill(builders[seed].pid or 0, signal.SIGKILL)
    for builder in builders:
        builder.join(20)
    codes = sorted(-99 if builder.exitcode is None else builder.exitcode for builder in builders)
    assert codes in ([-9] + [0] * 7, [0] * 8)
    assert left(root) == [IDENTITY.key]
    assert len(count.read_text()) <= 2, "only a killed builder's work is done again"
    assert EngineCache(root).find(IDENTITY) is not None


def test_the_place_and_the_bound_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_ENGINES", str(tmp_path))
    monkeypatch.setenv("OCTAVO_ENGINES_GIB", "0.5")
    assert default_cache().root == tmp_path
    for wrong in ("many", "-1", "0", "inf"):
        monkeypatch.setenv("OCTAVO_ENGINES_GIB", wrong)
        with pytest.raises(BadInput):
            default_cache()
