import numpy as np
import pytest
from sklearn import metrics as sk

from benchmarks.metrics import agreement, macro_scores, mean_cosine, paired_flips, sqnr_db, topk_hits
from quant.errors import BadInput


def random_case(seed: int, n: int = 200, k: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, k, n)
    logits = generator.normal(size=(n, k)).astype(np.float32)
    logits[np.arange(n), labels] += 1
    return logits, labels


@pytest.mark.parametrize("k", [1, 3, 5])
def test_topk_matches_sklearn(k: int) -> None:
    logits, labels = random_case(0)
    expected = sk.top_k_accuracy_score(labels, logits, k=k, labels=range(12))
    assert topk_hits(logits, labels, k).mean() == pytest.approx(expected)


def test_top1_agrees_with_argmax_when_all_logits_are_equal() -> None:
    # Coarsely quantized logits tie often; counting ties as hits would flatter INT8.
    logits, labels = np.zeros((6, 3), np.float32), np.array([0, 1, 2, 0, 1, 2])
    assert topk_hits(logits, labels, 1).tolist() == [True, False, False] * 2
    assert topk_hits(logits, labels, 2).tolist() == [True, True, False] * 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_macro_scores_match_sklearn_over_the_classes_present(seed: int) -> None:
    logits, labels = random_case(seed, n=25, k=12)  # some classes are absent, some never predicted
    predictions = logits.argmax(axis=1)
    present = np.unique(labels)
    expected = sk.precision_recall_fscore_support(
        labels, predictions, labels=present, average="macro", zero_division=0
    )
    own = macro_scores(predictions, labels)
    assert (own.precision, own.recall, own.f1) == pytest.approx(expected[:3])


def test_macro_scores_of_one_class() -> None:
    labels = np.array([4, 4, 4, 4])
    own = macro_scores(np.array([4, 4, 1, 1]), labels)
    assert (own.precision, own.recall) == (1.0, 0.5)
    never = macro_scores(np.array([1, 1, 1, 1]), labels)
    assert (never.precision, never.recall, never.f1) == (0, 0, 0)


def test_flips_and_agreement_by_hand() -> None:
    labels = np.array([0, 1, 2, 3, 4, 5])
    reference = np.array([0, 1, 0, 0, 0, 5])
    quantized = np.array([0, 0, 2, 0, 1, 0])  # same, worse, better, same wrong, other wrong, worse
    flips = paired_flips(quantized, reference, labels)
    assert (flips.better, flips.worse, flips.p_value) == (1, 2, 1.0)
    assert agreement(quantized, reference) == pytest.approx(2 / 6)


def test_sqnr_is_twenty_db_per_decade_of_noise() -> None:
    reference = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
    # Float32 storage of the product costs about 1e-7 relative; 1e-3 dB is far above that.
    assert sqnr_db(reference, reference * np.float32(0.9)) == pytest.approx(20, abs=1e-3)
    assert sqnr_db(reference, reference * np.float32(0.99)) == pytest.approx(40, abs=1e-3)
    assert sqnr_db(reference, reference) == np.inf
    assert sqnr_db(np.zeros(3), np.ones(3)) == -np.inf


def test_broken_inputs_are_refused_with_the_reason() -> None:
    logits, labels = random_case(0, n=4, k=3)
    with pytest.raises(BadInput, match="3 outputs"):
        topk_hits(logits, labels + 3, 1)
    with pytest.raises(BadInput, match="logits"):
        topk_hits(logits, labels[:3], 1)
    logits[1, 0] = np.nan
    with pytest.raises(BadInput, match="1 of 4 images"):
        topk_hits(logits, labels, 1)
    with pytest.raises(BadInput):
        macro_scores(labels[:2], labels)
    with pytest.raises(BadInput):
        agreement(labels[:0], labels[:0])


def test_cosine_is_the_mean_over_images() -> None:
    generator = np.random.default_rng(4)
    reference, values = generator.normal(size=(2, 9, 12)).astype(np.float32)
    one_by_one = np.diag(sk.pairwise.cosine_similarity(reference, values))
    assert mean_cosine(reference, values) == pytest.approx(one_by_one.mean(), abs=1e-7)  # float32's own error
    assert mean_cosine(reference, 3 * reference) == pytest.approx(1)
    assert mean_cosine(reference, np.zeros_like(reference)) == 0
    with pytest.raises(BadInput, match="equally shaped"):
        mean_cosine(reference, values[:, :5])
