"""Inputs that are no images, and their labels, stored as arrays in one NumPy archive."""

import numpy as np

from quant.data.archive import read_archive
from quant.data.config import SourceConfig
from quant.data.sources import Sample, check_label, register_source, required_path
from quant.errors import BadInput

__all__ = ["ArraysSource"]


@register_source("arrays")
class ArraysSource:
    """The arrays `inputs`, floats [N, ...], and `labels`, integers [N].

    Raises:
        BadInput: If the archive is damaged, lacks an array, or one has a wrong type, shape, value or label.
    """

    def __init__(self, config: SourceConfig) -> None:
        self._path = required_path(config)
        self._inputs, labels = read_archive(self._path, "inputs")
        if self._inputs.dtype.kind != "f" or self._inputs.ndim < 2:
            raise BadInput(
                f"{self._path}: inputs has dtype {self._inputs.dtype} and shape {list(self._inputs.shape)}; "
                "floats [N, ...] are needed"
            )
        if not np.isfinite(self._inputs).all():
            raise BadInput(f"{self._path}: inputs has values that are not finite")
        self.num_classes = config.num_classes
        self.labels = [
            check_label(int(label), f"{self._path} row {row}", self.num_classes)
            for row, label in enumerate(labels)
        ]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Sample, int]:
        return self._inputs[index].astype(np.float32), self.labels[index]

    def name(self, index: int) -> str:
        """Return the archive's name and the row, which counts from 0."""
        return f"{self._path.name}[{index}]"
