import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from quant.data.batches import batches
from quant.data.preprocessing import Preprocessing
from quant.errors import BadInput

PREPROCESSING = Preprocessing((3, 8, 8), (0.0,) * 3, (1.0,) * 3)


class Counting:
    """Ten images, image i filled with the value i, that record when they are read."""

    num_classes = None
    labels: Sequence[int] = list(range(100, 110))

    def __init__(self, broken: int | None = None) -> None:
        self.read: list[int] = []
        self.broken = broken
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        with self._lock:
            self.read.append(index)
        if index == self.broken:
            raise BadInput(f"image {index}")
        return Image.new("RGB", (8, 8), (index, index, index)), self.labels[index]

    def name(self, index: int) -> str:
        return f"image {index}"


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_all_images_come_once_and_in_order(workers: int) -> None:
    seen = list(batches(Counting(), PREPROCESSING, batch_size=4, workers=workers))
    assert [tuple(batch.images.shape) for batch in seen] == [(4, 3, 8, 8), (4, 3, 8, 8), (2, 3, 8, 8)]
    values = torch.cat([batch.images for batch in seen])[:, 0, 0, 0] * 255
    np.testing.assert_allclose(values.numpy(), np.arange(10), atol=1e-4)
    assert torch.equal(torch.cat([batch.labels for batch in seen]), torch.arange(100, 110))
    assert [name for batch in seen for name in batch.names] == [f"image {i}" for i in range(10)]


@pytest.mark.parametrize(("limit", "sizes"), [(3, [3]), (4, [4]), (5, [4, 1]), (99, [4, 4, 2])])
def test_limit_stops_early_and_reads_no_further(limit: int, sizes: list[int]) -> None:
    source = Counting()
    assert [len(batch.labels) for batch in batches(source, PREPROCESSING, 4, limit=limit)] == sizes
    assert sorted(source.read) == list(range(sum(sizes)))


def test_no_more_than_a_few_images_are_read_ahead() -> None:
    class Long(Counting):
        labels = [0] * 1000

        def __len__(self) -> int:
            return 1000

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            image, _ = super().__getitem__(index % 10)
            return image, 0

    source = Long()
    stream = batches(source, PREPROCESSING, batch_size=2, workers=2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(source.read) <= 2 + 8


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_stops_the_stream_where_it_stands(workers: int) -> None:
    stream = batches(Counting(broken=5), PREPROCESSING, batch_size=2, workers=workers)
    assert [next(stream).names for _ in range(2)] == [["image 0", "image 1"], ["image 2", "image 3"]]
    with pytest.raises(BadInput, match="image 5"):
        next(stream)


@pytest.mark.parametrize(
    "settings", [{"batch_size": 0}, {"batch_size": 1, "limit": 0}, {"batch_size": 1, "workers": -1}]
)
def test_numbers_out_of_range_are_refused_at_once(settings: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="allowed"):
        batches(Counting(), PREPROCESSING, **settings)
