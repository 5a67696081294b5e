"""The virtual environments that peers run in: built on demand from pinned requirements, and kept.

An environment is named by the digest of what it is made from. It is built under another name and renamed when
it is whole, so that a half-built one is never taken for one. (Its interpreter finds its packages relative to
itself; only the scripts beside it, which nobody calls, keep the old path.)
"""

import os
import platform
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from benchmarks.peers.process import PeerFailed, Say, quiet, stream
from deploy.pipeline.workspace import digest
from quant.errors import BadInput

__all__ = ["VARIABLE", "cache_folder", "interpreter_path", "make_interpreter"]

VARIABLE = "OCTAVO_PEERS"
_DIGITS = 16
_PARTIAL = re.compile(r"\..+\.(\d+)\.part")


def cache_folder() -> Path:
    """Where environments are kept: ``$OCTAVO_PEERS``, or ``~/.cache/octavo/peers``."""
    given = os.environ.get(VARIABLE)
    return Path(given).expanduser() if given else Path.home() / ".cache" / "octavo" / "peers"


def interpreter_path(requirements: Path, cache: Path) -> Path:
    """Where the interpreter of an environment is, or would be.

    Args:
        requirements: pinned packages, one per line, complete: nothing else is installed.
        cache: the folder of all environments.

    Raises:
        BadInput: the list cannot be read.
    """
    try:
        text = requirements.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{requirements}: cannot be read: {error.strerror}") from error
    pins = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    key = digest([pins, platform.python_version(), platform.machine()])[:_DIGITS]
    return cache / f"{requirements.stem}-{key}" / "bin" / "python"


def make_interpreter(
    requirements: Path,
    cache: Path,
    say: Say = quiet,
    show: Say = quiet,
    base: str | Path = sys.executable,
) -> Path:
    """Build an environment unless it is there already.

    Args:
        requirements: pinned packages, one per line, complete: nothing else is installed.
        cache: the folder of all environments.
        say: told what happens.
        show: told what pip prints, line by line.
        base: the interpreter that makes it.

    Returns:
        The environment's interpreter.

    Raises:
        BadInput: the list cannot be read or the folder cannot be written.
        PeerFailed: a package could not be installed; nothing is left behind.
    """
    python = interpreter_path(requirements, cache)
    folder = python.parent.parent
    if python.exists():
        return python
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{cache}: cannot be written: {error.strerror}; {VARIABLE} names another") from error
    _sweep(cache)
    say(f"environment {folder.name}: installing")
    partial = cache / f".{folder.name}.{os.getpid()}.part"
    pip = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps")
    try:
        stream([base, "-m", "venv", partial], show)
        stream([partial / "bin" / "python", *pip, "--requirement", requirements], show)
        with suppress(OSError):  # somebody else was faster: theirs is as good
            partial.rename(folder)
    except PeerFailed as error:
        raise PeerFailed(f"its environment could not be installed: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if not python.exists():
        raise PeerFailed(f"its environment could not be moved to {folder}")
    return python


def _sweep(cache: Path) -> None:
    """Remove what builds left behind that were killed."""
    for folder in cache.iterdir():
        found = _PARTIAL.fullmatch(folder.name)
        if found is not None and not _runs(int(found[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
