"""Images that are broken, are none, or are made to fill the memory."""

import io
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

__all__ = ["images"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SEED = 0


def images(right: bytes) -> st.SearchStrategy[bytes]:
    """Bodies for an image's address.

    Args:
        right: a PNG file.
    """
    files = (right, *_valid())

    def spoiled(given: tuple[bytes, str, int, bytes]) -> bytes:
        file, how, at, put = given
        at %= len(file)
        return {
            "cut": file[:at],
            "flipped": file[:at] + put + file[at + len(put) :],
            "inserted": file[:at] + put + file[at:],
            "doubled": file[:at] + file,
        }[how]

    how = st.sampled_from(("cut", "flipped", "flipped", "flipped", "inserted", "doubled"))
    place, put = st.integers(0, 10**5), st.binary(min_size=1, max_size=8)
    changed = st.tuples(st.sampled_from(files), how, place, put).map(spoiled)
    return st.one_of(changed, changed, changed, st.sampled_from(_bombs()), st.binary(max_size=300))


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@cache
def _valid() -> tuple[bytes, ...]:
    """Small images of every kind that the two formats have, and of others."""
    pixels = np.random.default_rng(_SEED).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    color = Image.fromarray(pixels)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    clear = color.convert("P")
    return (
        _saved(color, "JPEG"),
        _saved(color, "JPEG", progressive=True),
        _saved(color.convert("L"), "JPEG"),
        _saved(color.convert("CMYK"), "JPEG"),
        _saved(color.convert("P"), "PNG"),
        _saved(deep, "PNG"),
        _saved(clear, "PNG", transparency=0),
        _saved(color.convert("RGBA"), "PNG"),
        _saved(color.convert("1"), "PNG"),
        _saved(color, "PNG", save_all=True, append_images=[color.rotate(90)]),
        _saved(color.convert("LA"), "PNG"),
        _saved(color, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 60),
        _saved(color, "GIF"),
        _saved(color, "TIFF"),
        _saved(color, "BMP"),
        _saved(color, "WEBP"),
        _saved(color, "PPM"),
    )


@cache
def _bombs() -> tuple[bytes, ...]:
    """Small files that say they are large, or become so."""
    plain = zlib.compress(b"\0" * 2**22, 9)
    text = zlib.compress(b"x" * 2**26, 9)
    sizes = (
        (100_000, 100_000),
        (1, 60_000_000),
        (60_000_000, 1),
        (1, 3_900_000),
        (0, 5),
        (2**31 - 1, 2**31 - 1),
    )
    more_sizes = ((1999, 1999), (2**32 - 1, 1))
    jpeg = bytearray(_saved(Image.new("RGB", (16, 16)), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = b"\xff\xff\xff\xff"
    return (
        *(_png(size, plain) for size in (*sizes, *more_sizes)),
        *(_png((8, 8), plain, extra=[(kind, b"a\0\0" + text)]) for kind in (b"zTXt", b"iCCP")),
        _png((8, 8), plain, extra=[(b"iTXt", b"a\0\1\0\0\0" + text)]),
        _png((8, 8), plain, extra=[(b"tEXt", b"a\0" + b"x" * 10**6)]),
        _png((8, 8), plain, extra=[(b"acTL", struct.pack(">II", 2**31 - 1, 0))]),
        _png((8, 8), plain, extra=[(b"tRNS", b"")]),
        bytes(jpeg),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999999 9999999\n",
        b"GIF89a" + b"\xff" * 40,
        b"II*\0" + b"\xff" * 60,
        b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
        b"",
    )


def _png(size: tuple[int, int], data: bytes, extra: list[tuple[bytes, bytes]] | None = None) -> bytes:
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), *(extra or []), (b"IDAT", data), (b"IEND", b"")]
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
