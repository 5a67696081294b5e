from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from benchmarks.accuracy import Predictions, score
from benchmarks.selfcheck import check_recorded
from quant.data.preprocessing import Preprocessing
from quant.errors import BadInput

CLASSES, IMAGES, RIGHT = 12, 400, 0.8
TRAINED = Preprocessing((3, 8, 8), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", 0.9)


@dataclass
class Model:
    """Answers ``share`` of the images rightly under the preprocessing it was trained with, else 20 %."""

    trained: Preprocessing = TRAINED
    swapped: bool = False
    order: np.ndarray = field(default_factory=lambda: np.arange(CLASSES))
    share: float = RIGHT

    def __call__(self, preprocessing: Preprocessing, swapped: bool) -> Predictions:
        generator = np.random.default_rng(0)
        true = generator.integers(1, CLASSES - 1, IMAGES)
        good = preprocessing == self.trained and swapped == self.swapped
        right = generator.random(IMAGES) < (self.share if good else 0.2)
        guesses = np.where(right, true, (true + 3) % CLASSES)
        return Predictions(np.eye(CLASSES, dtype=np.float32)[guesses], self.order[true])


def check(model: Model, configured: Preprocessing = TRAINED, recorded: float = 100 * RIGHT) -> None:
    check_recorded(score(model(configured, False)), recorded, configured, model)


def test_a_figure_within_the_interval_passes() -> None:
    check(Model())
    check(Model(), recorded=78.0)


@pytest.mark.parametrize(
    ("configured", "model", "named"),
    [
        (replace(TRAINED, mean=(0.5,) * 3, std=(0.5,) * 3), Model(), "ImageNet's mean and std"),
        (TRAINED, Model(replace(TRAINED, mean=(0.5,) * 3, std=(0.5,) * 3)), "mean and std of 0.5"),
        (TRAINED, Model(replace(TRAINED, mean=(0.0,) * 3, std=(1.0,) * 3)), r"values in \[0, 1\]"),
        (TRAINED, Model(swapped=True), "red and blue exchanged"),
        (TRAINED, Model(replace(TRAINED, crop_pct=0.875)), r"crop_pct 0\.875"),
        (TRAINED, Model(replace(TRAINED, interpolation="bilinear")), "bilinear interpolation"),
        (TRAINED, Model(order=np.arange(CLASSES) + 1), "labels that count from 1"),
        (TRAINED, Model(order=np.arange(CLASSES) - 1), "outputs that count from 1"),
        # Class 2 is the fifth of 0, 1, 10, 11, 2, ...
        (
            TRAINED,
            Model(order=np.argsort(np.argsort([str(i) for i in range(CLASSES)]))),
            "classes in the order of their numbers as text",
        ),
    ],
)
def test_the_mistake_is_named(configured: Preprocessing, model: Model, named: str) -> None:
    with pytest.raises(
        BadInput, match=f"but 80 % is recorded for it; with {named}.* has [78].* as configured"
    ):
        check(model, configured)


def test_what_nothing_explains_is_said() -> None:
    with pytest.raises(
        BadInput, match=r"none of the usual mistakes explains it .*CLIP's mean.*recorded_top1"
    ):
        check(Model(share=0.2))
