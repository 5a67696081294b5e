import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pytest
from rich.console import Console

from benchmarks.accuracy import Predictions, collect, score
from quant.errors import BadInput

QUIET = Console(file=io.StringIO())


@dataclass(frozen=True)
class Batch:
    images: np.ndarray
    labels: np.ndarray


class Linear:
    """A model that needs no runtime: logits = flattened images @ weight."""

    def __init__(self, weight: np.ndarray) -> None:
        self.weight = weight

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        x = feeds["input"]
        return {"logits": x.reshape(len(x), -1) @ self.weight}


def batches(n: int = 10, size: int = 4) -> Iterator[Batch]:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(n, 3, 2, 2)).astype(np.float32)
    labels = generator.integers(0, 7, n)
    for i in range(0, n, size):
        yield Batch(images[i : i + size], labels[i : i + size])


def weights(noise: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(1)
    weight = generator.normal(size=(12, 7))
    return (weight + noise * generator.normal(size=weight.shape)).astype(np.float32)


def test_uneven_batches_give_every_image_once() -> None:
    got = collect(Linear(weights()), batches(), console=QUIET)
    whole = next(iter(batches(size=10)))
    # The same float32 products in another batching: sums may differ in the last bits.
    np.testing.assert_allclose(got.logits, whole.images.reshape(10, -1) @ weights(), rtol=1e-5, atol=1e-6)
    assert got.labels.tolist() == whole.labels.tolist()


def test_reference_alone_has_no_comparison_and_copies_agree_perfectly() -> None:
    fp32 = collect(Linear(weights()), batches(), console=QUIET)
    alone = score(fp32)
    assert alone.agreement is alone.flips is alone.sqnr_db is alone.cosine is None
    same = score(fp32, fp32)
    assert (same.agreement, same.sqnr_db) == (1.0, np.inf)
    assert same.cosine == pytest.approx(1)
    assert same.flips is not None
    assert (same.flips.better, same.flips.worse) == (0, 0)


def test_flips_add_up_to_the_difference_in_correct_answers() -> None:
    fp32 = collect(Linear(weights()), batches(300), console=QUIET)
    noisy = collect(Linear(weights(noise=0.8)), batches(300), console=QUIET)
    before, after = score(fp32), score(noisy, fp32)
    assert after.flips is not None
    assert after.flips.better + after.flips.worse > 0
    assert after.correct - before.correct == after.flips.better - after.flips.worse
    assert after.ci95.low < after.top1 < after.ci95.high
    assert after.top5 is not None
    assert after.top5 >= after.top1


def test_top5_of_five_outputs_is_left_out() -> None:
    logits = np.eye(5, dtype=np.float32)
    assert score(Predictions(logits, np.arange(5))).top5 is None


def test_wrong_use_is_refused() -> None:
    with pytest.raises(BadInput, match="no images"):
        collect(Linear(weights()), [], console=QUIET)
    with pytest.raises(BadInput, match="the model has: logits"):
        collect(Linear(weights()), batches(), output_name="features", console=QUIET)
    one = Predictions(np.zeros((3, 2), np.float32), np.array([0, 1, 0]))
    with pytest.raises(BadInput, match="other images"):
        score(one, Predictions(one.logits, np.array([1, 1, 0])))
