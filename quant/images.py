"""Decoding image files, and nothing more than Pillow is needed for it."""

import struct
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from quant.errors import BadInput

__all__ = ["IMAGE_SUFFIXES", "as_rgb", "decode_image"]

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"}
)

# What Pillow's readers raise on damaged files, besides OSError.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def decode_image(file: Path | BinaryIO, where: str) -> Image.Image:
    """Read a whole image file as 8-bit RGB. Its EXIF orientation is not looked at.

    Args:
        file: The image file, or an open one.
        where: How to name the image in an error: the file, and the row that lists it where there is one.

    Raises:
        BadInput: If the file is missing, truncated, damaged, no image, or has more than 8 bits per channel.
    """
    try:
        with Image.open(file) as image:
            image.load()
            return as_rgb(image, where)
    except BadInput:
        raise
    except _DECODE_ERRORS as error:
        raise BadInput(
            f"{where}: cannot be decoded as an image ({error}); replace the file or remove it"
        ) from error


def as_rgb(image: Image.Image, where: str) -> Image.Image:
    """The image as 8-bit RGB: grey is copied to the channels, opacity is dropped.

    Raises:
        BadInput: If it has more than 8 bits per channel; `where` names it.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        raise BadInput(
            f"{where}: pixel format {image.mode} has more than 8 bits; store it as 8-bit grey or RGB"
        )
    return image.convert("RGB")
