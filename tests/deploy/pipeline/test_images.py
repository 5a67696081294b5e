import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deploy.pipeline.images import Spread, calibration_batches, describe_source, source_identity
from quant.data.config import SourceConfig
from quant.data.preprocessing import Preprocessing
from quant.data.sources import open_source

PREPROCESSING = Preprocessing((3, 8, 8), (0.0,) * 3, (1.0,) * 3)


@pytest.fixture
def config(tmp_path: Path) -> SourceConfig:
    """Ten images, sorted by class, whose pixels all have the image's number."""
    for i in range(10):
        folder = tmp_path / f"class{i // 5}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), i, dtype=np.uint8)).save(folder / f"{i}.png")
    return SourceConfig(kind="folder", path=tmp_path)


@pytest.mark.parametrize(
    ("count", "chosen"), [(1, [0]), (2, [0, 5]), (4, [0, 2, 5, 7]), (10, [*range(10)]), (99, [*range(10)])]
)
def test_some_images_are_spread_over_all_classes(config: SourceConfig, count: int, chosen: list[int]) -> None:
    source = open_source(config)
    some = Spread(source, count)
    assert [int(np.asarray(some[i][0])[0, 0, 0]) for i in range(len(some))] == chosen
    assert some.labels == [i // 5 for i in chosen]
    assert [some.name(i) for i in range(len(some))] == [source.name(i) for i in chosen]


@pytest.mark.parametrize(("count", "chosen"), [(None, [*range(10)]), (4, [0, 2, 5, 7]), (30, [*range(10)])])
def test_calibration_sees_them_in_order_in_batches(
    config: SourceConfig, count: int | None, chosen: list[int]
) -> None:
    give = calibration_batches(open_source(config), PREPROCESSING, 3)
    for _ in range(2):  # it is asked twice: for the methods, then for the observers
        parts = list(give(count))
        assert [len(part) for part in parts[:-1]] == [3] * (len(parts) - 1)
        seen = (torch.cat(parts)[:, 0, 0, 0] * 255).round().int().tolist()
        assert seen == chosen


def test_identity_follows_the_images(config: SourceConfig) -> None:
    def identity() -> object:
        return source_identity(config, open_source(config))

    before = identity()
    assert identity() == before
    image = config.path / "class1" / "7.png"
    image.write_bytes(image.read_bytes() + b"\0")
    edited = identity()
    assert edited != before
    os.utime(image, ns=(0, 1))  # replaced by one of the same size
    assert identity() != edited
    image.unlink()
    assert len(identity()["images"]) == 9


def test_identity_follows_an_archive(tmp_path: Path) -> None:
    config = SourceConfig(kind="npz", path=tmp_path / "a.npz")

    def identity(value: int) -> object:
        images = np.full((4, 8, 8, 3), value, dtype=np.uint8)
        np.savez(tmp_path / "a.npz", images=images, labels=np.zeros(4, dtype=np.int64))
        os.utime(tmp_path / "a.npz", ns=(0, value))
        return source_identity(config, open_source(config))

    assert identity(1) == identity(1)
    assert identity(1) != identity(2)


def test_identity_does_not_depend_on_where_the_images_lie(config: SourceConfig, tmp_path: Path) -> None:
    before = source_identity(config, open_source(config))
    moved = config.model_copy(update={"path": tmp_path.rename(tmp_path.with_name("moved"))})
    assert source_identity(moved, open_source(moved)) == before


def test_a_source_in_words() -> None:
    config = SourceConfig(kind="digits", split="validation")
    assert describe_source(config, open_source(config)) == "360 images (digits, validation)"
