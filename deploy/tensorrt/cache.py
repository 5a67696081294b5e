"""Engines kept by what they were made from: model, library, device, settings.

An entry is a folder ``<key>`` with ``engine.plan`` and ``engine.json``. It is made beside its place and
renamed, so that it is there whole or not at all. Builders of the same key wait for each other; a lock of a
killed one is let go by the system, and what it left is removed by the next.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deploy.tensorrt.build import EngineSettings
from quant.errors import BadInput
from quant.files import file_sha256

__all__ = ["MANIFEST", "PLAN", "Engine", "EngineCache", "Identity", "default_cache"]

PLAN, MANIFEST = "engine.plan", "engine.json"
LAYOUT = 1
_PARTIAL = ".partial-"
_GIB = 2**30


@dataclass(frozen=True)
class Identity:
    """Everything an engine depends on.

    Attributes:
        model: SHA-256 of the ONNX file, and of the files that it keeps weights in.
        library: key of :data:`deploy.tensorrt.library.LIBRARIES`.
        version: of the library.
        device: name and compute capability of the GPU it is built on; None where it is built without one.
        settings: see :class:`deploy.tensorrt.build.EngineSettings`.
    """

    model: str
    library: str
    version: str
    device: str | None
    settings: EngineSettings

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    @property
    def key(self) -> str:
        """SHA-256 of it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Engine:
    """An engine that is kept.

    Attributes:
        folder: of its files.
        manifest: what it was made from, and the SHA-256 of the plan.
        fresh: whether it was built now.
    """

    folder: Path
    manifest: dict[str, Any]
    fresh: bool

    @property
    def plan(self) -> Path:
        """The serialized engine."""
        return self.folder / PLAN


class EngineCache:
    """A folder of engines, bounded in size.

    Args:
        root: the folder; made when the first engine is.
        limit_bytes: what all plans may take together; the least recently used go first.
    """

    def __init__(self, root: Path, limit_bytes: int = 10 * _GIB) -> None:
        if limit_bytes < 1:
            raise BadInput(f"the engine cache needs a size of at least 1 byte, got {limit_bytes}")
        self.root = root
        self._limit = limit_bytes

    def find(self, identity: Identity) -> Engine | None:
        """The engine, if it is here and whole."""
        folder = self.root / identity.key
        manifest = _read(folder, identity)
        if manifest is None:
            return None
        with suppress(OSError):
            os.utime(folder)  # it was used now
        return Engine(folder, manifest, fresh=False)

    def get(self, identity: Identity, make: Callable[[Path], None]) -> Engine:
        """The engine, built where it is not here.

        Args:
            identity: what it is made from.
            make: writes the plan to the path that it is given; where it raises, nothing is kept.

        Raises:
            BadInput: the folder cannot be written.
        """
        found = self.find(identity)
        if found is not None:
            return found
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._locked(identity.key):
                found = self.find(identity)  # another one may have built it meanwhile
                if found is None:
                    found = self._make(identity, make)
        except PermissionError as error:
            raise BadInput(
                f"{error.filename}: the engine cache cannot be written: {error.strerror}"
            ) from error
        self._shrink(identity.key)
        return found

    def timing_cache(self, identity: Identity) -> Path:
        """Where the timings of kernels are kept: they hold for a library, its version and a device."""
        about = json.dumps([identity.library, identity.version, identity.device])
        return self.root / f"timing-{hashlib.sha256(about.encode()).hexdigest()[:16]}.cache"

    def _make(self, identity: Identity, make: Callable[[Path], None]) -> Engine:
        for left in self.root.glob(f"{_PARTIAL}{identity.key}-*"):  # of a builder that was killed
            shutil.rmtree(left, ignore_errors=True)
        partial = self.root / f"{_PARTIAL}{identity.key}-{os.getpid()}"
        partial.mkdir()
        try:
            make(partial / PLAN)
            plan = {"sha256": file_sha256(partial / PLAN), "bytes": (partial / PLAN).stat().st_size}
            manifest = {"layout": LAYOUT, **identity.to_dict(), "plan": plan}
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            folder = self.root / identity.key
            _remove(folder)  # what was there is not whole
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return Engine(folder, manifest, fresh=True)

    @contextmanager
    def _locked(self, key: str, wait: bool = True) -> Iterator[None]:
        with (self.root / f".{key}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def _shrink(self, spared: str) -> None:
        """Remove the least recently used until the limit holds, and what killed builders left."""
        kept = []
        for folder in self.root.iterdir():
            if folder.name.startswith(_PARTIAL):
                key = folder.name.removeprefix(_PARTIAL).partition("-")[0]
                with suppress(OSError), self._locked(key, wait=False):  # else it is being built
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            with suppress(OSError):
                kept.append((folder.stat().st_mtime, (folder / PLAN).stat().st_size, folder))
        total = sum(size for _, size, _ in kept)
        for _, size, folder in sorted(kept):
            if total <= self._limit:
                return
            if folder.name != spared:
                with suppress(OSError), self._locked(folder.name, wait=False):
                    _remove(folder)
                    total -= size


def default_cache() -> EngineCache:
    """``~/.cache/octavo/engines``, or where ``OCTAVO_ENGINES`` says; ``OCTAVO_ENGINES_GIB`` bounds it.

    Raises:
        BadInput: the bound is not a positive number.
    """
    root = Path(os.environ.get("OCTAVO_ENGINES") or Path.home() / ".cache" / "octavo" / "engines")
    given = os.environ.get("OCTAVO_ENGINES_GIB", "10")
    try:
        return EngineCache(root, int(float(given) * _GIB))
    except (ValueError, OverflowError) as error:
        raise BadInput(f"OCTAVO_ENGINES_GIB is a positive number of GiB, got '{given}'") from error


def _read(folder: Path, identity: Identity) -> dict[str, Any] | None:
    """The manifest, where it is that of the identity and the plan is as it says."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        whole = file_sha256(folder / PLAN) == manifest["plan"]["sha256"]
        same = {key: manifest[key] for key in identity.to_dict()} == identity.to_dict()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # the last: brackets without end
        return None
    return manifest if whole and same and manifest.get("layout") == LAYOUT else None


def _remove(folder: Path) -> None:
    """At once for a reader: renamed first."""
    gone = folder.with_name(f"{_PARTIAL}{folder.name}-gone-{os.getpid()}")
    with suppress(FileNotFoundError):
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
