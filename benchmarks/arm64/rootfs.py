"""Make the root file system: Debian's Python for ARM64, and the wheels of ONNX Runtime and NumPy for it.

Nothing in it is run while it is made: packages are unpacked, not configured, which is enough for Python.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.arm64.emulator import WORK
from quant.errors import BadInput

__all__ = ["SUITE", "make_rootfs", "mirror", "wheels"]

SUITE, PYTHON = "bookworm", "3.11"
_DISTRIBUTIONS = ("onnxruntime", "numpy", "protobuf", "flatbuffers", "packaging")
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
_MOUNTED = ("dev", "proc", "sys", "tmp", WORK.strip("/"))
_SOURCES = Path("/etc/apt")


def make_rootfs(build: Path, lock: Path, say: Callable[[str], None]) -> Path:
    """The root file system below ``build``; what is already there is not made again.

    Args:
        build: kept between runs.
        lock: ``requirements.lock``; ARM gets the very versions that are run here.
        say: told what happens.

    Raises:
        BadInput: something cannot be fetched or written.
    """
    needed = wheels(lock)
    wanted = {"suite": SUITE, "python": PYTHON, "wheels": needed, "mounted": _MOUNTED}
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    root, packages = build / f"rootfs-{digest[:12]}", build / f"debian-{SUITE}"
    if root.is_dir():
        return root
    build.mkdir(parents=True, exist_ok=True)
    if not packages.is_dir():
        say(f"Debian {SUITE} for ARM64")
        _fetch(packages)
    say(f"{', '.join(needed)} for ARM64")
    partial = root.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for package in sorted(packages.glob("*.deb")):
        _do(["dpkg-deb", "-x", str(package), str(partial)])
    _install(needed, partial / "opt" / "site")
    for name in _MOUNTED:
        (partial / name).mkdir(exist_ok=True)
    partial.rename(root)
    return root


def wheels(lock: Path) -> tuple[str, ...]:
    """What ONNX Runtime needs on a device, ``name==version``, in the locked versions.

    Raises:
        BadInput: the lock does not name one.
    """
    locked = {line.partition("==")[0]: line for line in lock.read_text(encoding="utf-8").split()}
    missing = [name for name in _DISTRIBUTIONS if name not in locked]
    if missing:
        raise BadInput(f"{lock}: has no version of {', '.join(missing)}")
    return tuple(locked[name] for name in _DISTRIBUTIONS)


def mirror(sources: Path = _SOURCES) -> str | None:
    """Where this machine's apt gets Debian from; None where that is not told, for debootstrap's default."""
    files = [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))]
    for file in (file for file in files if file.is_file()):
        text = file.read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^(?:URIs:|deb(?:\s+\[[^\]]*\])?)\s+(https?://\S*debian/?)(?:\s|$)", text, re.M)
        if found:
            return found[1]
    return None


def _fetch(packages: Path) -> None:
    """Download the packages that Python needs; debootstrap also checks their signatures."""
    partial = packages.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    where = [address] if (address := mirror()) else []
    options = ["--foreign", "--arch=arm64", "--variant=minbase", "--include=python3"]
    _do(["debootstrap", *options, SUITE, str(partial), *where])
    (partial / "var/cache/apt/archives").rename(packages)
    shutil.rmtree(partial)


def _install(needed: Sequence[str], site: Path) -> None:
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]
    options += [f"--platform={name}" for name in _PLATFORMS]
    options += [f"--python-version={PYTHON}", "--implementation=cp", f"--target={site}"]
    _do([sys.executable, "-m", "pip", "install", *options, *needed])


def _do(words: Sequence[str]) -> None:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise BadInput(f"{words[0]} ended with {done.returncode}: {last}")
