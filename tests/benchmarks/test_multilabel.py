import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from benchmarks.accuracy import Predictions
from benchmarks.multilabel import bits_of, score_bits
from quant.errors import BadInput

GENERATOR = np.random.default_rng(0)
TRUTH = GENERATOR.random((60, 5)) < 0.3
LABELS = TRUTH @ (1 << np.arange(5))
LOGITS = np.where(TRUTH, 1.0, -1.0) + GENERATOR.normal(0, 0.6, TRUTH.shape)
OTHER = LOGITS + GENERATOR.normal(0, 0.4, TRUTH.shape)


def test_bit_i_of_a_label_is_answer_i() -> None:
    assert bits_of(np.array([0b10010, 0]), 5).tolist() == [[False, True, False, False, True], [False] * 5]


def test_figures_are_those_of_scikit_learn() -> None:
    found = score_bits(Predictions(LOGITS, LABELS))
    yes = LOGITS > 0
    assert 0 < found.correct < 60
    assert found.correct == sum(a.tolist() == b.tolist() for a, b in zip(yes, TRUTH, strict=True))
    precision, recall, f1, _ = precision_recall_fscore_support(TRUTH, yes, average="micro")
    # Both divide the same integers.
    assert (found.precision, found.recall, found.f1) == pytest.approx((precision, recall, f1), rel=1e-12)


def test_agreement_is_that_of_whole_answers() -> None:
    found = score_bits(Predictions(OTHER, LABELS), Predictions(LOGITS, LABELS))
    right, was = [((logits > 0) == TRUTH).all(axis=1) for logits in (OTHER, LOGITS)]
    assert found.agreement == np.mean(
        [((a > 0) == (b > 0)).all() for a, b in zip(OTHER, LOGITS, strict=True)]
    )
    assert found.flips is not None
    assert (found.flips.better, found.flips.worse) == ((right & ~was).sum(), (~right & was).sum())
    assert found.flips.better + found.flips.worse > 0


def test_a_model_that_never_says_yes_has_no_precision() -> None:
    found = score_bits(Predictions(np.full((60, 5), -1.0), LABELS))
    assert (found.precision, found.recall, found.f1) == (0, 0, 0)


@pytest.mark.parametrize(
    ("logits", "labels", "says"),
    [
        (LOGITS[:, :4], LABELS, "4 outputs allow 0 to 15"),
        (np.zeros((1, 63)), np.array([0]), "63 outputs; a label holds up to 62"),
        (np.where(LOGITS > 1, np.inf, LOGITS), LABELS, "not finite"),
    ],
)
def test_what_cannot_be_judged_is_refused(logits: np.ndarray, labels: np.ndarray, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        score_bits(Predictions(logits, labels))


def test_the_reference_must_have_seen_the_same() -> None:
    with pytest.raises(BadInput, match="other samples"):
        score_bits(Predictions(LOGITS, LABELS), Predictions(LOGITS, LABELS[::-1].copy()))
