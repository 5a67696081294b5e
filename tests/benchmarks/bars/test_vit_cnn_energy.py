from typing import Any

import pytest

from benchmarks.analyses.cells import CellsOptions
from benchmarks.bars.vit_cnn_energy import cnn_bars
from benchmarks.results import Summary
from quant.errors import BadInput

OPTIONS = CellsOptions(
    names="{weights}_{scales}_{bits}",
    axes={"weights": ("tensor", "channel"), "scales": ("standard",), "bits": ("8", "6", "4")},
    best_of="bits",
)


def variant(name: str, correct: int, mj: float, arithmetic: float) -> dict[str, Any]:
    """5,000 images, of which FP32 has 4,200 right for 1 mJ, half of it arithmetic."""
    share = correct / 5000
    accuracy = {
        **dict.fromkeys(("top1", "top5", "precision", "recall", "f1", "agreement"), share),
        "n": 5000,
        "correct": correct,
        "classes": 10,
        "ci95": {"low": 0.5, "high": 1.0},
        "sqnr_db": 20.0,
        "flips": {"better": 9, "worse": 9 + 4200 - correct, "p_value": 1.0},
    }
    energy = {"modelled_mj": mj, "arithmetic_mj": arithmetic, "weights_mj": 0.0, "activations_mj": 0.0}
    about = {"target": "ort-x86", "file": "model.onnx", "size_bytes": 1}
    return {"name": name, **about, "accuracy": accuracy, "energy": energy}


def summary_of(summary_dict: dict[str, Any], *variants: dict[str, Any]) -> Summary:
    return Summary.model_validate(summary_dict | {"variants": [variant("fp32", 4200, 1.0, 0.5), *variants]})


def test_bars_take_the_best_recipe_of_each_width_against_what_was_published(
    summary_dict: dict[str, Any],
) -> None:
    bars = cnn_bars(
        summary_of(
            summary_dict,
            variant("tensor_standard_8-ort-x86", 4190, 0.15, 0.03),
            variant("channel_tuned_8-ort-x86", 4203, 0.15, 0.03),
            variant("channel_standard_6-ort-x86", 4197, 0.11, 0.02),
            variant("channel_standard_4-ort-x86", 4097, 0.05, 0.02),
        ),
        OPTIONS,
        {"channel_tuned_8": 90.0, "channel_standard_6": 89.0, "channel_standard_4": 95.0},
    )
    assert [bar.reached for bar in bars] == [True] * 3 + [False, False, True, False, False] + [
        False,
        True,
        True,
        True,
    ]
    assert [bar.measured for bar in bars[:4]] == pytest.approx(
        [-0.06, 94.0, 90.0, 85.0]
    )  # +3 of 5,000 images
    assert (bars[4].measured, bars[4].limit) == pytest.approx((0.06, 0.05))
    assert (bars[8].measured, bars[8].limit) == pytest.approx((2.06, 2.05))
    assert bars[0].remark == "channel_tuned_8: +9 / −6 images, same answer 84.06 %"


def test_a_width_that_was_not_run_is_no_bar_reached(summary_dict: dict[str, Any]) -> None:
    summary = summary_of(summary_dict, variant("channel_standard_8-ort-x86", 4300, 0.1, 0.02))
    with pytest.raises(BadInput, match="no figures of ResNet-56 at 6 bits"):
        cnn_bars(summary, OPTIONS, {"channel_standard_8": 90.0})
