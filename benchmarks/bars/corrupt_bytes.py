"""Ways to spoil any file; what they leave may hit what does not matter, or other weights.

All draw from a generator, so that a seed names a file.
"""

from collections.abc import Callable

from numpy.random import Generator

__all__ = ["BYTES", "Change"]

Change = Callable[[bytes, Generator], bytes]

BYTES: dict[str, Change] = {}
"""Name to change."""


def _bytes(change: Change) -> Change:
    BYTES[change.__name__.strip("_")] = change
    return change


@_bytes
def _truncate(content: bytes, rng: Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


@_bytes
def _flip_bytes(content: bytes, rng: Generator) -> bytes:
    changed = bytearray(content)
    for place in rng.integers(len(content), size=int(rng.integers(1, 9))):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


@_bytes
def _overwrite_span(content: bytes, rng: Generator) -> bytes:
    start, size = int(rng.integers(len(content))), int(rng.integers(1, 200))
    return content[:start] + rng.bytes(size) + content[start + size :]


@_bytes
def _zero_span(content: bytes, rng: Generator) -> bytes:
    start, size = int(rng.integers(len(content))), int(rng.integers(1, 200))
    return content[:start] + bytes(size) + content[start + size :]


@_bytes
def _remove_span(content: bytes, rng: Generator) -> bytes:
    start, size = int(rng.integers(len(content))), int(rng.integers(1, 200))
    return content[:start] + content[start + size :]


@_bytes
def _insert_bytes(content: bytes, rng: Generator) -> bytes:
    start = int(rng.integers(len(content)))
    return content[:start] + rng.bytes(int(rng.integers(1, 200))) + content[start:]
