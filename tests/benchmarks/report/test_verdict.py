from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.report.verdict import Tone, verdicts
from benchmarks.results import Summary

Changed = Callable[..., Summary]


def speed(value: float, low: float, high: float) -> dict[str, Any]:
    return {
        "batch": 1,
        "threads": 1,
        "first_ms": 5.0,
        "processes": 2,
        "cpus": None,
        "load_ms": 9.0,
        "warmup_ms": [],
        "samples_ms": [2.0, 2.0],
        "median_ms": 2.0,
        "p90_ms": 2.0,
        "p99_ms": 2.0,
        "images_per_s": 500.0,
        "speedup": {"value": value, "low": low, "high": high},
    }


def judged(summary: Summary, correct: int, better: int, worse: int, p: float) -> dict[str, Any]:
    base = summary.base.accuracy
    assert base is not None
    return {
        **vars(base),
        "correct": correct,
        "top1": correct / base.n,
        "flips": {"better": better, "worse": worse, "p_value": p},
    }


def test_a_win_names_speed_points_images_and_chance(summary: Summary) -> None:
    first, second = verdicts(summary)
    assert first.sentence == (
        "INT8 (ort-x86) is 1.38× faster than FP32 at batch 1 and 0.9 points less accurate "
        "(3 of 344 samples, within chance, p = 0.55). Its file is 3.83× smaller."
    )
    assert first.tone is Tone.WIN
    assert second.sentence == "INT8 (tensorrt): exported and checked; not run here."
    assert second.tone is Tone.UNKNOWN


def test_slower_is_said_as_plainly_and_never_called_faster(changed: Changed) -> None:
    verdict = verdicts(changed(latency=[speed(0.9, 0.88, 0.92)]))[0]
    assert "slower than FP32 at batch 1 (0.90× its speed)" in verdict.sentence
    assert "faster" not in verdict.sentence
    assert verdict.tone is Tone.LOSS


def test_an_interval_across_one_is_no_difference(changed: Changed) -> None:
    verdict = verdicts(changed(latency=[speed(1.02, 0.97, 1.06)]))[0]
    assert "as fast as FP32 at batch 1, as far as can be told (0.97 to 1.06×)" in verdict.sentence
    assert verdict.tone is Tone.MIXED


@pytest.mark.parametrize(
    ("correct", "flips", "words", "tone"),
    [
        (254, (3, 3, 1.0), "as accurate (254 of 344 samples right", Tone.WIN),
        (258, (6, 2, 0.29), "1.2 points more accurate (4 of 344 samples, within chance", Tone.WIN),
        (154, (0, 100, 1e-30), "29.1 points less accurate (100 of 344 samples, beyond chance", Tone.MIXED),
    ],
)
def test_accuracy_is_weighed_against_chance(
    summary: Summary, changed: Changed, correct: int, flips: tuple[int, int, float], words: str, tone: Tone
) -> None:
    verdict = verdicts(changed(accuracy=judged(summary, correct, *flips)))[0]
    assert words in verdict.sentence
    assert verdict.tone is tone


def test_a_lost_model_that_is_not_faster_is_a_loss(summary: Summary, changed: Changed) -> None:
    lost = judged(summary, 4, 0, 250, 1e-70)
    assert verdicts(changed(accuracy=lost, latency=[speed(1, 0.9, 1.1)]))[0].tone is Tone.LOSS


def test_speed_alone_and_accuracy_alone_are_still_sentences(changed: Changed) -> None:
    alone = verdicts(changed(accuracy=None, size_ratio=None))[0]
    assert alone.sentence == "INT8 (ort-x86) is 1.38× faster than FP32 at batch 1."
    assert alone.tone is Tone.UNKNOWN
    other = verdicts(changed(accuracy=None, latency=None))[0]
    assert other.sentence == "INT8 (ort-x86): not run here."


def test_a_larger_file_is_called_larger(changed: Changed) -> None:
    assert "Its file is 2.00× larger." in verdicts(changed(size_ratio=0.5))[0].sentence


@pytest.mark.parametrize(("high", "told"), [(1.2, True), (1.5, False)])
def test_a_noisy_machine_proves_only_what_is_beyond_its_noise(
    summary_dict: dict[str, Any], high: float, told: bool
) -> None:
    noise = [{"batch": 1, "threads": 2, "ratio": {"value": 1.0, "low": 0.9, "high": high}}]
    verdict = verdicts(Summary.model_validate(summary_dict | {"noise": noise}))[0]  # 1.35 to 1.41
    assert ("1.38× faster than FP32" in verdict.sentence) == told
    assert ("too noisy to tell (FP32 took 0.90 to 1.50 of its own time)" in verdict.sentence) != told
    assert verdict.tone is (Tone.WIN if told else Tone.MIXED)
