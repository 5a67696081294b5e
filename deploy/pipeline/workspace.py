"""The folder of a run: steps are skipped while nothing they depend on changes, and never left half done."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from quant.errors import BadInput
from quant.files import file_sha256, replace_bytes

__all__ = ["Step", "Workspace", "digest", "library_versions"]

_HIDDEN = ".octavo"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_VERSIONED = (
    *("octavo", "torch", "torchvision", "timm", "numpy", "pillow"),
    *("onnx", "onnx-ir", "onnxscript", "onnxsim", "onnxruntime"),
)


@dataclass(frozen=True)
class Step:
    """A unit of work that leaves files.

    Attributes:
        name: unique in a run, such as ``lower int8-ort-x86``; the first word is its stage.
        inputs: gives everything the files depend on, as JSON values; called only when asked for.
        outputs: the files, relative to the run's folder; a name that ends with ``/`` is a folder with all
            that is in it.
        work: writes them below the folder it is given.
        packages: the packages of Octavo whose code the files depend on.
    """

    name: str
    inputs: Callable[[], Any]
    outputs: tuple[str, ...]
    work: Callable[[Path], None]
    packages: tuple[str, ...]


class Workspace:
    """A run's folder.

    A finished step has a stamp: the digest of its inputs and the SHA-256 of each file it left. Where both
    still hold, the step is skipped. Its files are written to a folder of their own and moved into place when
    all of them are whole; whatever a killed run left there is removed by the next one.

    Attributes:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Where an output lies."""
        return self.root / name

    def kept(self, name: str) -> Path:
        """Where a step keeps what an interrupted run goes on with."""
        return self.root / _HIDDEN / name

    def sha256(self, name: str) -> str:
        """Of an output's bytes.

        Raises:
            BadInput: it is not there.
        """
        if not self.path(name).is_file():
            raise BadInput(f"{self.path(name)}: does not exist; an earlier stage has to be run first")
        return file_sha256(self.path(name))

    def is_intact(self, step: Step) -> bool:
        """Whether all files of the step are as it left them."""
        stamp = self._stamp(step)
        return sorted(stamp.get("files", {})) == sorted(step.outputs) and all(
            self.path(name).exists() and _sha256(self.path(name)) == sha256
            for name, sha256 in stamp["files"].items()
        )

    def do(self, step: Step, force: bool = False, say: Callable[[str], None] = lambda _: None) -> bool:
        """Do the step unless it is done already.

        Args:
            step: what to do.
            force: do it in any case.
            say: told what happens.

        Returns:
            Whether it was done now.

        Raises:
            BadInput: there is no disk space; everything else that ``step.work`` raises passes through. The
                files of an earlier run are left as they were.
        """
        try:
            key = digest([step.name, step.inputs(), library_versions(), code_digest(step.packages)])
            if not force and self._stamp(step).get("key") == key and self.is_intact(step):
                say(f"{step.name}: nothing has changed, skipped")
                return False
            say(step.name)
            folder = self._emptied()
            step.work(folder)
            self._publish(step, key, folder)
        except OSError as error:
            if error.errno in _FULL:
                raise BadInput(
                    f"{error.filename or self.root}: no disk space ({error.strerror}); make room and run the "
                    "same command again"
                ) from error
            raise
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
        return True

    def write(self, name: str, text: str) -> None:
        """Write a file of the run that belongs to no step."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            replace_bytes(self.path(name), text.encode())
        except OSError as error:
            raise BadInput(f"{self.path(name)}: cannot be written: {error.strerror}") from error

    @property
    def _scratch(self) -> Path:
        return self.root / _HIDDEN / "partial"

    def _emptied(self) -> Path:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        return self._scratch

    def _publish(self, step: Step, key: str, folder: Path) -> None:
        files = {name: _sha256(folder / name) for name in step.outputs}
        self._stamp_path(step).unlink(missing_ok=True)
        for name in files:
            self.path(name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                shutil.rmtree(self.path(name), ignore_errors=True)
            os.replace(folder / name, self.path(name))
        stamp = json.dumps({"key": key, "files": files}, indent=1)
        replace_bytes(self._stamp_path(step), stamp.encode())

    def _stamp_path(self, step: Step) -> Path:
        return self.root / _HIDDEN / f"{step.name.replace(' ', '-')}.json"

    def _stamp(self, step: Step) -> dict[str, Any]:
        try:
            stamp = json.loads(self._stamp_path(step).read_bytes())
        except (OSError, ValueError):
            return {}
        return stamp if isinstance(stamp, dict) else {}


def _sha256(path: Path) -> str:
    """Of a file's bytes, or of the names and bytes of all files below a folder."""
    if not path.is_dir():
        return file_sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return digest({file.relative_to(path).as_posix(): file_sha256(file) for file in files})


def digest(value: Any) -> str:
    """SHA-256 of JSON values, keys sorted."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@cache
def library_versions() -> dict[str, str]:
    """The versions of Octavo and of the libraries that results depend on, of those that are installed."""
    found = {}
    for name in _VERSIONED:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


@cache
def code_digest(packages: Sequence[str]) -> str:
    """SHA-256 over the source files of some of our packages."""
    found = hashlib.sha256()
    for package in packages:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            for file in sorted(Path(folder).rglob("*.py")):
                found.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()
