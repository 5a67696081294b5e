"""Which shared libraries a file needs, read from the file itself, so that it works for any architecture.

Source: System V ABI, chapters 4 (object files) and 5 (program loading); 64-bit little-endian files only,
which is what x86-64 and AArch64 have.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Elf", "read_elf"]

_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3  # kinds of segments
_NEEDED, _STRINGS, _RPATH, _RUNPATH = 1, 5, 15, 29  # kinds of entries of the dynamic section


@dataclass(frozen=True)
class Elf:
    """What the dynamic loader reads.

    Attributes:
        needed: names of libraries.
        paths: where it looks for them first; ``$ORIGIN`` is the file's own folder.
        interpreter: the loader itself, of programs.
    """

    needed: tuple[str, ...]
    paths: tuple[str, ...]
    interpreter: str | None


def read_elf(path: Path) -> Elf | None:
    """Read a program or library; None where the file is neither.

    Raises:
        ValueError: it is of 32 bits or big-endian.
    """
    with path.open("rb") as file:
        if file.read(4) != b"\x7fELF":
            return None
    data = path.read_bytes()
    if data[4:6] != b"\x02\x01":
        raise ValueError(f"{path}: is not a 64-bit little-endian file")
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    loads: list[tuple[int, int, int]] = []
    dynamic, interpreter = b"", None
    for index in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, table + index * size)
        if kind == _LOAD:
            loads.append((address, offset, length))
        elif kind == _DYNAMIC:
            dynamic = data[offset : offset + length]
        elif kind == _INTERPRETER:
            interpreter = data[offset : offset + length].rstrip(b"\0").decode()
    entries = list(struct.iter_unpack("<qQ", dynamic[: len(dynamic) // 16 * 16]))
    strings = next((value for tag, value in entries if tag == _STRINGS), None)
    if strings is None:
        return Elf((), (), interpreter)
    start = next(offset + strings - begin for begin, offset, n in loads if begin <= strings < begin + n)

    def text(at: int) -> str:
        return data[start + at : data.index(b"\0", start + at)].decode()

    paths = [text(value) for tag, value in entries if tag in (_RPATH, _RUNPATH)]
    return Elf(
        tuple(text(value) for tag, value in entries if tag == _NEEDED),
        tuple(part for path_list in paths for part in path_list.split(":") if part),
        interpreter,
    )
