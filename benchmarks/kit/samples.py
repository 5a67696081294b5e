"""The samples of a kit: some of the validation set, preprocessed, as small as they can be without loss."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics import Floats, Labels
from deploy.pipeline.images import Spread
from deploy.pipeline.line import Line
from quant.data.batches import batches

__all__ = ["Samples", "choose", "npy"]

_CODES = 256  # values that a byte tells apart
_BATCH = 16  # read at a time


@dataclass(frozen=True)
class _Batch:
    images: Floats
    labels: Labels


@dataclass(frozen=True)
class Samples:
    """Some labelled inputs.

    Attributes:
        inputs: preprocessed, float32 [N, C, H, W], or [N, ...] of a model that takes no images.
        labels: int64 [N].
        names: what the source calls each.
    """

    inputs: NDArray[np.float32]
    labels: Labels
    names: tuple[str, ...]

    def batches(self, size: int) -> Iterator[_Batch]:
        """All of them in order, the last batch may be smaller."""
        for start in range(0, len(self.labels), size):
            some = slice(start, start + size)
            yield _Batch(self.inputs[some], self.labels[some])

    def files(self) -> dict[str, bytes]:
        """Name to content, as NumPy files.

        ``inputs.npy`` has the inputs. Pixels have 256 values before they are normalized, so it mostly has
        codes uint8 [N, C, H, W], and ``table.npy`` float32 [C, 256] the value of each code: a fourth of the
        bytes, and exact.
        """
        found = _coded(self.inputs)
        if found is None:
            return {"inputs.npy": npy(self.inputs)}
        table, codes = found
        return {"inputs.npy": npy(codes), "table.npy": npy(table)}


def choose(line: Line, count: int) -> Samples:
    """Samples spread evenly over the validation set, in a random order that depends on the run's seed alone.

    Any number of the first ones is then as good a choice as the whole: a slow device need not answer all.

    Args:
        line: the run.
        count: how many; all where there are fewer.
    """
    source = Spread(line.validation, count)
    read = list(batches(source, line.loaded.preprocessing, _BATCH))
    order = np.random.default_rng(line.config.seed).permutation(len(source))
    inputs = np.concatenate([np.asarray(batch.images, dtype=np.float32) for batch in read])
    labels = np.concatenate([np.asarray(batch.labels, dtype=np.int64) for batch in read])
    names = [name for batch in read for name in batch.names]
    return Samples(inputs[order], labels[order], tuple(names[i] for i in order))


def npy(array: NDArray[np.generic]) -> bytes:
    """An array as the content of a NumPy file."""
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def _coded(inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.uint8]] | None:
    """Table and codes; None where the inputs are no images, or a channel has too many values."""
    if inputs.ndim != 4:
        return None
    table = np.zeros((inputs.shape[1], _CODES), dtype=np.float32)
    codes = np.empty(inputs.shape, dtype=np.uint8)
    for channel in range(inputs.shape[1]):
        values, found = np.unique(inputs[:, channel], return_inverse=True)
        if len(values) > _CODES:
            return None
        table[channel, : len(values)] = values
        codes[:, channel] = found.reshape(codes[:, channel].shape)
    return table, codes
