from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quant.data.config import SourceConfig
from quant.data.sources import ImageSource, open_source
from quant.errors import BadInput

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1])


def open_arrays(folder: Path, **arrays: Any) -> ImageSource:
    np.savez(folder / "set.npz", **arrays)
    return open_source(SourceConfig(kind="npz", path=folder / "set.npz"))


def test_rows_become_rgb_images(tmp_path: Path) -> None:
    source = open_arrays(tmp_path, images=IMAGES, labels=LABELS)
    for i in range(3):
        image, label = source[i]
        np.testing.assert_array_equal(np.asarray(image), IMAGES[i])
        assert (label, source.name(i)) == (LABELS[i], f"set.npz[{i}]")


def test_grey_rows_repeat_over_the_channels(tmp_path: Path) -> None:
    source = open_arrays(tmp_path, images=IMAGES[..., 0], labels=LABELS)
    np.testing.assert_array_equal(np.asarray(source[1][0]), IMAGES[1, :, :, :1].repeat(3, axis=2))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "has no array labels; found images"),
        ({"x": IMAGES, "labels": LABELS}, "has no array images; found x, labels"),
        ({"images": IMAGES / 255, "labels": LABELS}, "images has dtype float64; uint8"),
        ({"images": IMAGES.transpose(0, 3, 1, 2), "labels": LABELS}, r"images has shape \[3, 3, 5, 4\]"),
        ({"images": IMAGES, "labels": LABELS.astype(float)}, "labels has dtype float64"),
        ({"images": IMAGES, "labels": LABELS[:, None]}, r"shape \[3, 1\]"),
        ({"images": IMAGES, "labels": LABELS[:2]}, "has 3 images but 2 labels"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "has no images"),
        ({"images": IMAGES, "labels": LABELS - 1}, "row 1: label -1 is negative"),
        ({"images": IMAGES, "labels": np.array([0, None, 1])}, "without pickled objects"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=rf"set\.npz.*{message}"):
        open_arrays(tmp_path, **arrays)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    open_arrays(tmp_path, images=IMAGES, labels=LABELS)
    path = tmp_path / "set.npz"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello"):
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"set\.npz: is not a whole"):
            open_source(SourceConfig(kind="npz", path=path))


def test_a_single_array_or_a_folder_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", IMAGES)
    with pytest.raises(BadInput, match=r"one\.npy: is not a whole \.npz"):
        open_source(SourceConfig(kind="npz", path=tmp_path / "one.npy"))
    with pytest.raises(BadInput, match="is not a whole"):
        open_source(SourceConfig(kind="npz", path=tmp_path))


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    open_arrays(tmp_path, images=IMAGES, labels=LABELS)
    path = tmp_path / "set.npz"
    content = bytearray(path.read_bytes())
    content[250] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"set\.npz: cannot be read"):
        open_source(SourceConfig(kind="npz", path=path))
