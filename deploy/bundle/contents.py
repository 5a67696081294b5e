"""Reading the files of a bundle into memory. Nothing is unpacked, and nothing is believed."""

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from deploy.bundle.layout import FILES, MANIFEST, MOST_BYTES, zip_bytes
from quant.errors import BadInput
from quant.files import file_sha256

__all__ = ["read_contents"]

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_MOST_FILES = 2 * len(FILES)  # room for the files of later versions, which are named as such
_MOST_OVERHEAD = 2**16  # of a zip with so few and short names
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


def read_contents(path: Path, limit_bytes: int = MOST_BYTES) -> dict[str, bytes]:
    """The files of a bundle by name.

    Args:
        path: a zip or a folder.
        limit_bytes: what they may take together; it is checked before they are read.

    Raises:
        BadInput: it is neither, is damaged, is larger, has subfolders or links, or is a zip that was not
            written by Octavo.
    """
    try:
        if path.is_dir():
            return _from_folder(path, limit_bytes)
        if not path.is_file():
            raise BadInput(f"{path}: does not exist; a bundle is a zip or a folder, made by `octavo package`")
        return _from_zip(path, limit_bytes)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error


def _from_folder(path: Path, limit_bytes: int) -> dict[str, bytes]:
    entries = sorted(path.iterdir())
    _check_names(path, (entry.name for entry in entries))
    for entry in entries:
        if entry.is_symlink() or not entry.is_file():
            raise BadInput(f"{path}: '{entry.name}' is a link or a folder; a bundle has plain files only")
    _check_sizes(path, (entry.stat().st_size for entry in entries), limit_bytes)
    return {entry.name: entry.read_bytes() for entry in entries}


def _from_zip(path: Path, limit_bytes: int) -> dict[str, bytes]:
    _check_sizes(
        path, (path.stat().st_size,), limit_bytes + _MOST_OVERHEAD
    )  # a list of entries can be huge, too
    with path.open("rb") as stream:  # what is raised from here on is the zip's fault, not the disk's
        files = _entries(path, stream, limit_bytes)
    # Bytes before, between and behind the entries, links, times and other attributes: all that is not as
    # Octavo writes it.
    if hashlib.sha256(zip_bytes(files)).hexdigest() != file_sha256(path):
        raise BadInput(
            f"{path}: is not the zip that `octavo package` writes (another tool packed it, or bytes were "
            "changed or added); take the original, or unzip it and load the folder"
        )
    return files


def _entries(path: Path, stream: BinaryIO, limit_bytes: int) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
            _check_names(path, (entry.filename for entry in entries))
            _check_sizes(path, (entry.file_size for entry in entries), limit_bytes)
            # Of an entry that unpacks to more than it says, no more than that is read.
            return {entry.filename: archive.read(entry) for entry in entries}
    except BadInput:
        raise
    except _DAMAGED as error:
        raise BadInput(
            f"{path}: is not a whole zip ({error}); copy the bundle again, or make it again with "
            "`octavo package`"
        ) from error


def _check_names(path: Path, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if not _PLAIN.fullmatch(name):
            raise BadInput(
                f"{path}: has an entry {name[:100]!r}; files of a bundle have plain names, without folders"
            )
        if name in seen:
            raise BadInput(f"{path}: has '{name}' twice")
        seen.add(name)
    if len(seen) > _MOST_FILES:
        raise BadInput(f"{path}: has {len(seen)} files; a bundle has at most {_MOST_FILES}")
    if MANIFEST not in seen:
        raise BadInput(f"{path}: is not a bundle: it has no {MANIFEST}; `octavo package` makes bundles")


def _check_sizes(path: Path, sizes: Iterable[int], limit_bytes: int) -> None:
    total = sum(sizes)
    if total > limit_bytes:
        raise BadInput(f"{path}: its files take {total} bytes; allowed are {limit_bytes} (limit_bytes)")
