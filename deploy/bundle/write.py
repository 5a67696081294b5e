"""Put a bundle where it is wanted: whole or not at all, and over nothing but a bundle."""

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

from deploy.bundle.layout import FILES, FORMAT, MANIFEST, zip_bytes
from quant.errors import BadInput
from quant.files import replace_bytes

__all__ = ["check_place", "write_bundle", "write_folder"]

_DAMAGED = (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, NotImplementedError, RuntimeError)


def check_place(out: Path) -> None:
    """Refuse a place where something else than a bundle is.

    Raises:
        BadInput: naming it.
    """
    if not os.path.lexists(out) or _is_bundle(out) or (out.is_dir() and not any(out.iterdir())):
        return
    raise BadInput(f"{out}: is there and is no bundle; give another --out, or remove it")


def write_bundle(files: Mapping[str, bytes], out: Path) -> None:
    """Write beside ``out``, then rename.

    Args:
        files: of the bundle, by name.
        out: a zip where its name ends so, else a folder; a bundle that is there is replaced.

    Raises:
        BadInput: something else is there.
        OSError: it cannot be written; what was there is left as it was.
    """
    check_place(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".zip":
        if out.is_dir():
            raise BadInput(f"{out}: is a folder; remove it, or give a name that does not end in .zip")
        replace_bytes(out, zip_bytes(files))
    else:
        write_folder(files, out)


def write_folder(files: Mapping[str, bytes], out: Path) -> None:
    """Write files beside ``out``, then rename; whatever is there is replaced.

    Args:
        files: by name, which may have folders before it.
        out: the folder; that which it is in exists.

    Raises:
        OSError: it cannot be written; what was there is left as it was.
    """
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    try:
        beside.mkdir()
        for name, content in files.items():
            file = beside / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o644)
            file.parent.chmod(0o755)
        _exchange(beside, out, old)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _exchange(new: Path, out: Path, old: Path) -> None:
    """A folder cannot be renamed over another, so the old one steps aside first."""
    if not os.path.lexists(out):
        os.rename(new, out)
        return
    os.rename(out, old)
    try:
        os.rename(new, out)
    except OSError:
        os.rename(old, out)
        raise
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink()


def _is_bundle(path: Path) -> bool:
    """Whether it is a bundle of any version, be it a damaged one."""
    if path.is_symlink():
        return False
    try:
        if path.is_dir():
            names, manifest = [entry.name for entry in path.iterdir()], (path / MANIFEST).read_bytes()
        else:
            with zipfile.ZipFile(path) as archive:
                names, manifest = archive.namelist(), archive.read(MANIFEST)
        return bool(json.loads(manifest)["format"] == FORMAT) and set(names) <= set(FILES)
    except _DAMAGED:
        return False
