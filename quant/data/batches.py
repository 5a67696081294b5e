"""Turning a set of images into batches, without holding more than a few at a time."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from quant.data.preparation import Preparation
from quant.data.sources import ImageSource
from quant.errors import BadInput

__all__ = ["Batch", "batches"]

_LOOKAHEAD_PER_WORKER = 4


@dataclass(frozen=True)
class Batch:
    """Some images in the order of their source.

    Attributes:
        images: float32 [B, C, H, W], preprocessed; [B, ...] of a model that takes no images.
        labels: int64 [B], class indices.
        names: What to call each image, B of them.
    """

    images: torch.Tensor
    labels: torch.Tensor
    names: list[str]


def batches(
    source: ImageSource,
    preprocessing: Preparation,
    batch_size: int,
    limit: int | None = None,
    workers: int = 2,
) -> Iterator[Batch]:
    """Yield a source's images in its order; the last batch may be smaller.

    Memory does not grow with the number of images: at most one batch and a fixed number of decoded images
    ahead of it are held. The result does not depend on `workers`.

    Args:
        source: The images.
        preprocessing: Applied to each image.
        batch_size: Images per batch, at least 1.
        limit: Stop after this many images.
        workers: Threads that decode ahead; 0 decodes in the caller's.

    Raises:
        BadInput: If a number is out of range, or, when its turn comes, an image cannot be decoded.
    """
    if batch_size < 1 or workers < 0 or (limit is not None and limit < 1):
        raise BadInput(
            f"batch_size is {batch_size}, limit {limit}, workers {workers}; "
            "allowed: batch_size and limit at least 1, workers at least 0"
        )
    count = len(source) if limit is None else min(limit, len(source))
    return _batches(source, preprocessing, batch_size, count, workers)


def _batches(
    source: ImageSource, preprocessing: Preparation, batch_size: int, count: int, workers: int
) -> Iterator[Batch]:
    images = _tensors(source, preprocessing, count, workers)
    for start in range(0, count, batch_size):
        indices = range(start, min(start + batch_size, count))
        rows = [next(images) for _ in indices]
        yield Batch(
            images=torch.stack([image for image, _ in rows]),
            labels=torch.tensor([label for _, label in rows], dtype=torch.int64),
            names=[source.name(index) for index in indices],
        )


def _tensors(
    source: ImageSource, preprocessing: Preparation, count: int, workers: int
) -> Iterator[tuple[torch.Tensor, int]]:
    transform = preprocessing.transform()

    def read(index: int) -> tuple[torch.Tensor, int]:
        image, label = source[index]
        return transform(image), label

    if workers == 0:
        yield from map(read, range(count))
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    pending: deque[Future[tuple[torch.Tensor, int]]] = deque()
    try:
        for index in range(count):
            pending.append(pool.submit(read, index))
            if len(pending) >= workers * _LOOKAHEAD_PER_WORKER:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
