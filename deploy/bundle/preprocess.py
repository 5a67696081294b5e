"""What the recorded preprocessing says, done with NumPy and Pillow.

The same tensors, bit for bit, as :class:`quant.data.preprocessing.Preprocessing` makes with timm and
torchvision: both resize with Pillow, and the 256 values that a byte of a channel can become are computed in
float32 in the same order, ``(byte / 255 - mean) / std``. Sizes follow timm's ``transforms_imagenet_eval``.
"""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.errors import BadInput

__all__ = ["ArrayInput", "ImageInput", "input_of"]

_CROP_MODES = ("center", "squash", "border")


@dataclass(frozen=True)
class ImageInput:
    """A model that takes images [C, H, W].

    Attributes:
        input_size: C, H, W; C is 3 (RGB) or 1 (grey).
        mean: one value per channel, on the scale of [0, 1].
        std: one value per channel, on the scale of [0, 1].
        interpolation: resize filter of Pillow.
        crop_pct: the image is resized to size / crop_pct before the crop.
        crop_mode: center, squash or border, see :class:`quant.data.preprocessing.Preprocessing`.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str

    def prepare(self, sample: Any) -> NDArray[np.float32]:
        """The tensor [C, H, W] of an image.

        Args:
            sample: a Pillow image, the path of an image file, or its content as bytes. Its EXIF orientation
                is not looked at, nor was it when accuracy was measured.

        Raises:
            BadInput: it is neither, or cannot be decoded or resized.
        """
        image = self._fitted(_rgb(sample))
        pixels = np.asarray(image).reshape(*self.input_size[1:], -1)
        table = self._table()
        return np.stack([table[channel][pixels[..., channel]] for channel in range(len(table))])

    def _table(self) -> NDArray[np.float32]:
        """What each byte becomes in each channel [C, 256]."""
        scale = np.arange(256, dtype=np.float32) / np.float32(255)
        mean, std = (np.asarray(values, dtype=np.float32)[:, None] for values in (self.mean, self.std))
        return np.asarray((scale - mean) / std, dtype=np.float32)

    def _fitted(self, image: Any) -> Any:
        """The image of the model's size, as 8-bit grey or RGB."""
        from PIL import Image

        channels, height, width = self.input_size
        image = image if channels == 3 else image.convert("L")
        size = self.resized(*image.size)
        if min(size) < 1:
            raise BadInput(f"an image of {image.width} × {image.height} pixels is too narrow to be resized")
        image = image.resize(size, Image.Resampling[self.interpolation.upper()])
        padding = (0,) * channels
        if self.crop_mode == "border":
            padding = tuple(round(255 * value) for value in self.mean)
        wide, high = max(width, image.width), max(height, image.height)
        if (wide, high) != image.size:
            padded = Image.new(image.mode, (wide, high), padding if channels == 3 else padding[0])
            padded.paste(image, ((wide - image.width) // 2, (high - image.height) // 2))
            image = padded
        left, top = round((wide - width) / 2), round((high - height) / 2)
        return image.crop((left, top, left + width, top + height))

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after the resize and before the crop, of an image of this size."""
        high, wide = (math.floor(side / self.crop_pct) for side in self.input_size[1:])
        if self.crop_mode == "squash":
            return wide, high
        if self.crop_mode == "center" and wide == high:  # the shorter side becomes this; torchvision's Resize
            short, long = sorted((width, height))
            other = int(wide * long / short)
            return (wide, other) if width <= height else (other, wide)
        longest = self.crop_mode == "border"
        ratio = (max if longest else min)(height / high, width / wide)
        return round(width / ratio), round(height / ratio)


@dataclass(frozen=True)
class ArrayInput:
    """A model that takes arrays as they are.

    Attributes:
        input_size: the shape of one, without the batch.
    """

    input_size: tuple[int, ...]

    def prepare(self, sample: Any) -> NDArray[np.float32]:
        """The array as float32.

        Raises:
            BadInput: it is no array of numbers, or has another shape.
        """
        array = np.asarray(sample)
        if array.shape != self.input_size or array.dtype.kind not in "fiu":
            raise BadInput(
                f"the model takes arrays {list(self.input_size)} of numbers, given: {array.dtype} "
                f"{list(array.shape)}"
            )
        return np.ascontiguousarray(array, dtype=np.float32)


def input_of(told: Mapping[str, Any]) -> ImageInput | ArrayInput:
    """What the manifest's ``preprocessing`` describes.

    Raises:
        ValueError: a value is wrong, or this version does not know it; KeyError, TypeError likewise.
    """
    size = tuple(told["input_size"])
    if not size or not all(type(side) is int and side > 0 for side in size):
        raise ValueError(f"input_size is {told['input_size']!r}")
    if told["kind"] == "none":
        return ArrayInput(size)
    mean, std = (tuple(float(value) for value in told[key]) for key in ("mean", "std"))
    interpolation, crop_mode, crop_pct = told["interpolation"], told["crop_mode"], float(told["crop_pct"])
    expected = {
        "kind": "image",
        "color": "RGB" if size[0] == 3 else "L",
        "layout": "NCHW",
        "dtype": "float32",
        "exif_orientation": "ignored",
    }
    for key, value in expected.items():
        if told[key] != value:
            raise ValueError(f"{key} is {told[key]!r}, this version knows {value!r}")
    if len(size) != 3 or size[0] not in (1, 3) or len(mean) != size[0] or len(std) != size[0]:
        raise ValueError(f"input_size {list(size)}, mean and std do not go together")
    if not all(map(math.isfinite, mean)) or not all(0 < value < math.inf for value in std):
        raise ValueError("mean or std is out of range")
    if not 0 < crop_pct <= 1 or crop_mode not in _CROP_MODES:
        raise ValueError(f"crop_pct {crop_pct} or crop_mode {crop_mode!r} is unknown")
    if interpolation not in ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"):
        raise ValueError(f"interpolation {interpolation!r} is unknown")
    return ImageInput((size[0], size[1], size[2]), mean, std, interpolation, crop_pct, crop_mode)


def _rgb(sample: Any) -> Any:
    """A sample as 8-bit RGB."""
    try:
        from PIL import Image
    except ImportError as error:
        raise BadInput("the model takes images, for which Pillow is needed: pip install pillow") from error
    from quant.images import as_rgb, decode_image

    if isinstance(sample, Image.Image):
        return as_rgb(sample, "the image")
    if isinstance(sample, str | Path):
        return decode_image(Path(sample), str(sample))
    if isinstance(sample, bytes):
        return decode_image(io.BytesIO(sample), "the image")
    raise BadInput(
        f"the model takes Pillow images, paths of image files or their bytes, given: {type(sample).__name__}"
    )
