"""scikit-learn's handwritten digits, split once and for all."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from quant.data.config import SourceConfig
from quant.data.sources import register_source
from quant.errors import BadInput

__all__ = ["SPLITS", "DigitsSource"]

SPLITS = ("train", "calibration", "validation")
_SPLIT_SEED = 0
_VALIDATION_SHARE = 0.2
_CALIBRATION_IMAGES = 256
_GREY_LEVELS = 16  # load_digits counts ink from 0 to 16


@register_source("digits")
class DigitsSource:
    """One split of the 1,797 grey 8×8 images of `sklearn.datasets.load_digits`, 10 classes.

    train has 1,437 images, validation the other 360; calibration is 256 of the training images. All are
    stratified by class and fixed by a seed, so no training run ever sees a validation image.

    Raises:
        BadInput: If `split` is not one of the three, or `num_classes` is below 10.
    """

    num_classes = 10

    def __init__(self, config: SourceConfig) -> None:
        if config.split not in SPLITS:
            raise BadInput(f"kind digits needs a split; allowed: {', '.join(SPLITS)}; given: {config.split}")
        if config.num_classes is not None and config.num_classes < self.num_classes:
            raise BadInput(f"the digits have {self.num_classes} classes; the model has {config.num_classes}")
        digits = load_digits()
        grey = np.rint(digits.images * (255 / _GREY_LEVELS)).astype(np.uint8)
        self._rows = _rows_of(config.split, digits.target)
        self._images = grey[self._rows]
        self.labels = [int(label) for label in digits.target[self._rows]]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self._images[index]).convert("RGB"), self.labels[index]

    def name(self, index: int) -> str:
        """Return the image's row in `load_digits()`."""
        return f"digits[{self._rows[index]}]"


def _rows_of(split: str, target: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int]:
    """Return the sorted rows of `load_digits()` that make up a split."""
    train, validation = train_test_split(
        np.arange(len(target)), test_size=_VALIDATION_SHARE, stratify=target, random_state=_SPLIT_SEED
    )
    if split == "calibration":
        train, _ = train_test_split(
            train, train_size=_CALIBRATION_IMAGES, stratify=target[train], random_state=_SPLIT_SEED
        )
    return sorted(int(row) for row in (validation if split == "validation" else train))
