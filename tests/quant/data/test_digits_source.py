import numpy as np
import pytest
from sklearn.datasets import load_digits

from quant.data.config import SourceConfig
from quant.data.sources import ImageSource, open_source
from quant.errors import BadInput


def opened(split: str) -> ImageSource:
    return open_source(SourceConfig(kind="digits", split=split))


def rows(source: ImageSource) -> list[int]:
    return [int(source.name(i).removeprefix("digits[").removesuffix("]")) for i in range(len(source))]


def test_no_validation_image_is_trained_or_calibrated_on() -> None:
    train, calibration, validation = (set(rows(opened(s))) for s in ("train", "calibration", "validation"))
    assert (len(train), len(calibration), len(validation)) == (1437, 256, 360)
    assert not train & validation
    assert calibration < train
    assert train | validation == set(range(1797))


@pytest.mark.parametrize("split", ["calibration", "validation"])
def test_every_class_has_its_share(split: str) -> None:
    source = opened(split)
    share = np.bincount(source.labels, minlength=10) / len(source)
    expected = np.bincount(load_digits().target) / 1797
    # Stratified sampling is off by less than one image per class.
    assert np.abs(share - expected).max() < 1 / len(source)


def test_images_and_labels_are_those_of_scikit_learn() -> None:
    source, digits = opened("validation"), load_digits()
    for i, row in list(enumerate(rows(source)))[:20]:
        image, label = source[i]
        assert label == digits.target[row]
        # Rounding to 8 bits moves a value by at most half a grey level.
        np.testing.assert_allclose(
            np.asarray(image)[..., 0] / 255 * 16, digits.images[row], atol=0.5 * 16 / 255
        )


def test_other_splits_and_smaller_models_are_refused() -> None:
    with pytest.raises(BadInput, match="allowed: train, calibration, validation; given: test"):
        opened("test")
    with pytest.raises(BadInput, match="10 classes; the model has 4"):
        open_source(SourceConfig(kind="digits", split="train"), num_classes=4)
