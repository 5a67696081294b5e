"""The same tensors as the harness makes with timm and torchvision, bit for bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.bundle.describe import recorded_preprocessing
from deploy.bundle.preprocess import ArrayInput, ImageInput, input_of
from quant.data.preprocessing import Preprocessing
from quant.data.tensor_input import TensorInput
from quant.errors import BadInput
from quant.images import decode_image

SIZES = ((32, 32), (8, 8), (37, 101), (500, 333), (31, 32), (3, 90))
"""Heights and widths: exact, smaller, wide, large, one pixel short, and a strip."""


def both(like: Preprocessing) -> ImageInput:
    """The recorded settings, read back as a loader does."""
    found = input_of(json.loads(json.dumps(recorded_preprocessing(json.loads(like.to_metadata())))))
    assert isinstance(found, ImageInput)
    return found


def settings(
    channels: int, crop_mode: str, crop_pct: float, interpolation: str, size: tuple[int, int]
) -> Preprocessing:
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    return Preprocessing((channels, *size), mean, std, interpolation, crop_pct, crop_mode)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_every_size_and_setting_gives_the_same_bits(crop_mode: str, interpolation: str) -> None:
    generator = np.random.default_rng(0)
    for channels, size in ((3, (32, 32)), (1, (24, 40))):
        for crop_pct in (0.875, 1.0):
            expected = settings(channels, crop_mode, crop_pct, interpolation, size)
            own, theirs = both(expected), expected.transform()
            for shape in SIZES:
                image = Image.fromarray(generator.integers(0, 256, (*shape, 3), dtype=np.uint8))
                got = own.prepare(image)
                assert got.dtype == np.float32
                assert np.array_equal(got, theirs(image).numpy()), (channels, crop_pct, shape)


def files(folder: Path) -> list[Path]:
    """An image in every form that images come in."""
    generator = np.random.default_rng(1)
    rgb = Image.fromarray(generator.integers(0, 256, (45, 61, 3), dtype=np.uint8))
    rgba = rgb.convert("RGBA")
    rgba.putalpha(Image.fromarray(generator.integers(0, 256, (45, 61), dtype=np.uint8)))
    palette = rgb.quantize(32)
    forms = {
        "rgb.png": rgb,
        "rgb.jpg": rgb,
        "grey.png": rgb.convert("L"),
        "one_bit.png": rgb.convert("1"),
        "rgba.png": rgba,
        "grey_alpha.png": rgba.convert("LA"),
        "palette.png": palette,
        "cmyk.jpg": rgb.convert("CMYK"),
        "webp.webp": rgba,
    }
    for name, image in forms.items():
        image.save(folder / name)
    palette.save(folder / "palette_transparent.png", transparency=3)
    palette.save(folder / "animated.gif", save_all=True, append_images=[palette.rotate(90)])
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: turn by 90°
    rgb.save(folder / "turned.jpg", exif=turned)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("channels", [3, 1])
def test_every_kind_of_image_file_gives_the_same_bits(tmp_path: Path, channels: int) -> None:
    expected = settings(channels, "center", 0.9, "bicubic", (32, 32))
    own, theirs = both(expected), expected.transform()
    found = files(tmp_path)
    assert len(found) == 12
    for file in found:
        wanted = theirs(decode_image(file, file.name)).numpy()
        assert np.array_equal(own.prepare(file), wanted), file.name
        with Image.open(file) as image:
            assert np.array_equal(own.prepare(image), wanted), file.name


def test_images_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    own = both(settings(3, "border", 1.0, "bicubic", (32, 32)))
    Image.fromarray(np.zeros((9, 9), dtype=np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "text.png").write_text("no image")
    for sample, words in (
        (tmp_path / "deep.png", "more than 8 bits"),
        (tmp_path / "text.png", "cannot be decoded as an image"),
        (tmp_path / "none.png", "cannot be decoded as an image"),
        (b"no image", "the image: cannot be decoded as an image"),
        (
            np.zeros((32, 32, 3), dtype=np.uint8),
            "paths of image files or their bytes, given: ndarray",
        ),
        (Image.new("RGB", (1, 900)), "1 × 900 pixels is too narrow"),
    ):
        with pytest.raises(BadInput, match=words):
            own.prepare(sample)


def test_arrays_pass_as_they_do_in_the_harness() -> None:
    own = input_of(recorded_preprocessing(json.loads(TensorInput((4, 2)).to_metadata())))
    assert own == ArrayInput((4, 2))
    sample = np.random.default_rng(0).normal(size=(2, 4)).T
    assert np.array_equal(own.prepare(sample), TensorInput((4, 2)).transform()(sample).numpy())
    for wrong in (np.zeros((2, 4), np.float32), np.array([["a"] * 2] * 4), "rows"):
        with pytest.raises(BadInput, match=r"takes arrays \[4, 2\] of numbers, given"):
            own.prepare(wrong)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("color", "BGR"),
        ("layout", "NHWC"),
        ("dtype", "float16"),
        ("exif_orientation", "applied"),
        ("kind", "sound"),
        ("interpolation", "random"),
        ("crop_mode", "both"),
        ("crop_pct", 0),
        ("mean", [0.5]),
        ("std", [0.0, 1.0, 1.0]),
        ("input_size", [3, 0, 8]),
        ("input_size", [4, 8, 8]),
    ],
)
def test_settings_that_this_version_does_not_know_are_not_guessed(key: str, value: object) -> None:
    told = recorded_preprocessing(json.loads(settings(3, "center", 1.0, "bicubic", (8, 8)).to_metadata()))
    assert input_of(told)
    with pytest.raises(ValueError, match=r"is|mean"):
        input_of(told | {key: value})
