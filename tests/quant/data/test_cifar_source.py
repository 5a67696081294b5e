import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quant.data.config import SourceConfig
from quant.data.sources import ImageSource, open_source
from quant.errors import BadInput

ROWS = 4
PIXELS = np.random.default_rng(0).integers(0, 256, (5, ROWS, 3, 32, 32), dtype=np.uint8)
"""Five files of rows, each red, green and blue planes."""


def rows(pixels: np.ndarray[Any, Any], *labels: list[int]) -> bytes:
    """Rows as the data sets' authors lay them out, written byte by byte."""
    parts = []
    for i in range(len(pixels)):
        parts += [bytes(column[i] for column in labels), *(bytes(plane) for plane in pixels[i])]
    return b"".join(parts)


def cifar10() -> dict[str, bytes]:
    batches = {f"data_batch_{b + 1}.bin": rows(PIXELS[b], [b, 1, 2, 9]) for b in range(5)}
    return {**batches, "test_batch.bin": rows(PIXELS[0], [3, 0, 7, 9]), "batches.meta.txt": b"airplane\n"}


def cifar100() -> dict[str, bytes]:
    test = rows(PIXELS[1], [19, 0, 1, 2], [99, 5, 4, 3])
    return {"train.bin": rows(PIXELS[0], [0, 1, 2, 3], [4, 5, 6, 7]), "test.bin": test}


def unpacked(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def packed(path: Path, files: Mapping[str, bytes], inside: str) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{inside}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def opened(path: Path, split: str | None = "test", kind: str = "cifar10", **more: Any) -> ImageSource:
    return open_source(SourceConfig(kind=kind, path=path, split=split, **more))


def pixels_of(source: ImageSource) -> np.ndarray[Any, Any]:
    return np.stack([np.asarray(source[i][0]) for i in range(len(source))])


def test_folder_archive_and_the_folder_around_them_give_the_same_images(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "a/cifar-10-batches-bin", cifar10())
    archive = packed(tmp_path / "cifar-10-binary.tar.gz", cifar10(), "cifar-10-batches-bin")
    for path in (folder, folder.parent, archive, tmp_path):
        source = opened(path)
        assert list(source.labels) == [3, 0, 7, 9]
        np.testing.assert_array_equal(pixels_of(source), PIXELS[0].transpose(0, 2, 3, 1))
        assert (source[2][1], source.name(2), source.num_classes) == (7, "test_batch.bin[2]", 10)


def test_training_images_are_the_five_batches_in_order(tmp_path: Path) -> None:
    source = opened(unpacked(tmp_path / "c", cifar10()), "train")
    assert list(source.labels) == [x for b in range(5) for x in (b, 1, 2, 9)]
    np.testing.assert_array_equal(pixels_of(source), PIXELS.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    assert source.name(ROWS) == "data_batch_2.bin[0]"
    some = opened(tmp_path / "c", "train", limit=6)
    assert (len(some), some.name(5)) == (6, "data_batch_2.bin[1]")


def test_cifar100_has_fine_and_coarse_labels(tmp_path: Path) -> None:
    archive = packed(tmp_path / "cifar-100-binary.tar.gz", cifar100(), "cifar-100-binary")
    fine = opened(archive, kind="cifar100")
    coarse = opened(archive, kind="cifar100", options={"labels": "coarse"})
    assert (list(fine.labels), fine.num_classes) == ([99, 5, 4, 3], 100)
    assert (list(coarse.labels), coarse.num_classes) == ([19, 0, 1, 2], 20)
    for source in (fine, coarse):
        np.testing.assert_array_equal(pixels_of(source), PIXELS[1].transpose(0, 2, 3, 1))
    assert list(opened(archive, "train", "cifar100").labels) == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("kind", "files", "message"),
    [
        ("cifar10", {"data_batch_1": b"", "test_batch": b""}, "version for Python.*cifar-10-binary.tar.gz"),
        ("cifar10", {"test_batch.mat": b""}, "version for Matlab"),
        ("cifar10", cifar100(), r"has no test_batch\.bin; this is CIFAR-100 \(kind cifar100\)"),
        ("cifar100", {"train": b"", "test": b""}, "version for Python.*cifar-100-binary.tar.gz"),
        ("cifar100", cifar10(), r"this is CIFAR-10 \(kind cifar10\)"),
        ("cifar10", {"a.bin": b""}, r"has no test_batch\.bin; found a\.bin"),
        ("cifar10", {}, "found nothing"),
    ],
)
def test_another_version_is_named_whether_it_is_packed_or_not(
    tmp_path: Path, kind: str, files: dict[str, bytes], message: str
) -> None:
    for path in (unpacked(tmp_path / "f", files), packed(tmp_path / "x.tar.gz", files, "inside")):
        with pytest.raises(BadInput, match=rf"{path.name}.*{message}"):
            opened(path, kind=kind)


def test_a_batch_that_is_missing_is_named(tmp_path: Path) -> None:
    files = cifar10()
    del files["data_batch_3.bin"], files["data_batch_5.bin"]
    with pytest.raises(BadInput, match=r"has no data_batch_3\.bin and no data_batch_5\.bin"):
        opened(unpacked(tmp_path / "c", files), "train")


@pytest.mark.parametrize("cut", [-1, -3073 * ROWS + 1, -3073 * ROWS])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    files = {"test_batch.bin": cifar10()["test_batch.bin"][:cut]}
    for path in (unpacked(tmp_path / "c", files), packed(tmp_path / "c.tar", files, "inside")):
        with pytest.raises(BadInput, match=r"test_batch\.bin has \d+ bytes.*whole number of rows of 3073"):
            opened(path)


def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    archive = packed(tmp_path / "cifar-10-binary.tar.gz", cifar10(), "cifar-10-batches-bin")
    whole = archive.read_bytes()
    for content in (whole[:-4000], whole[:20], b"", b"hello"):
        archive.write_bytes(content)
        with pytest.raises(
            BadInput, match=r"is not a whole archive .*download cifar-10-binary\.tar\.gz again"
        ):
            opened(archive)


def test_wrong_settings_and_labels_are_refused(tmp_path: Path) -> None:
    folder = unpacked(tmp_path / "c", cifar10() | cifar100())
    for split in (None, "validation"):
        with pytest.raises(BadInput, match=r"needs a split; allowed: train, test; given"):
            opened(folder, split)
    with pytest.raises(BadInput, match=r"has 10 classes \(fine labels\); the model has 5"):
        opened(folder, num_classes=5)
    with pytest.raises(BadInput, match="labels: fine or coarse"):
        opened(folder, kind="cifar100", options={"labels": "super"})
    (folder / "test_batch.bin").write_bytes(rows(PIXELS[0], [3, 0, 10, 9]))
    with pytest.raises(BadInput, match=r"test_batch\.bin\[2\]: label 10 is out of range"):
        opened(folder)
