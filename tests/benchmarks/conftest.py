import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.results import Summary

MiB = 2**20


def latency(median: float, *, batch: int = 1, speedup: dict[str, float] | None = None) -> dict[str, Any]:
    """A plausible latency entry whose 60 samples scatter around ``median`` ms with a tail."""
    generator = np.random.default_rng(round(median * 100))
    samples = (median + np.abs(generator.normal(0, 0.03 * median, 60))).tolist()
    samples[17] = 1.8 * median
    low, p90, p99 = (float(np.percentile(samples, q)) for q in (50, 90, 99))
    return {
        "batch": batch,
        "threads": 2,
        "first_ms": 3.1 * median,
        "warmup_ms": [1.2 * median, 1.1 * median],
        "samples_ms": samples,
        "median_ms": low,
        "p90_ms": p90,
        "p99_ms": p99,
        "images_per_s": 1000 * batch / low,
        "speedup": speedup,
    }


def accuracy(correct: int, n: int, against: dict[str, Any] | None = None) -> dict[str, Any]:
    share = correct / n
    figures = {
        "n": n,
        "correct": correct,
        "top1": share,
        "top5": min(1.0, share + 0.17),
        "precision": share - 0.02,
        "recall": share - 0.03,
        "f1": share - 0.04,
        "classes": 100,
        "ci95": {"low": share - 0.05, "high": share + 0.05},
    }
    return figures | (against or {})


def memory(peak: float) -> dict[str, Any]:
    return {
        "batch": 1,
        "threads": 2,
        "imported_mib": 61.5,
        "loaded_mib": peak - 12,
        "first_mib": peak - 4,
        "peak_mib": peak,
        "load_delta_mib": peak - 12 - 61.5,
        "first_delta_mib": peak - 4 - 61.5,
        "peak_delta_mib": peak - 61.5,
        "peaks_mib": [peak - 0.5, peak, peak + 0.7],
    }


SUMMARY: dict[str, Any] = {
    "created": "2026-11-20T10:15:00Z",
    "command": "octavo bench vit_tiny_patch16_224 --recipe ptq --data validation --threads 2",
    "model": "vit_tiny_patch16_224",
    "recipe": "ptq-balanced",
    "data": "ImageNet validation subset, 344 images of 100 classes",
    "environment": {
        "cpu": "Example CPU 9000",
        "architecture": "x86_64",
        "isa": ["avx2", "avx512_vnni", "fma"],
        "cores": 8,
        "governor": None,
        "memory_gib": 31.3,
        "system": "Linux 6.1",
        "python": "3.11.9",
        "packages": {"onnxruntime": "1.31.1", "torch": "2.15.0"},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "thread_variables": {"OMP_NUM_THREADS": "2"},
    },
    "settings": {
        "latency": {"calls": 60, "warmup": 2},
        "calibration": {"images": 128, "method": "percentile"},
    },
    "variants": [
        {
            "name": "fp32",
            "target": "ort-x86",
            "file": "fp32.onnx",
            "size_bytes": 23 * MiB,
            "size_ratio": 1.0,
            "accuracy": accuracy(254, 344),
            "latency": [latency(21.4), latency(81.0, batch=4)],
            "memory": memory(118.4),
        },
        {
            "name": "int8-ort-x86",
            "target": "ort-x86",
            "file": "int8-ort-x86.onnx",
            "size_bytes": 6 * MiB,
            "size_ratio": 23 / 6,
            "accuracy": accuracy(
                251,
                344,
                {
                    "agreement": 0.945,
                    "flips": {"better": 4, "worse": 7, "p_value": 0.5488281},
                    "sqnr_db": 21.7,
                },
            ),
            "latency": [
                latency(15.5, speedup={"value": 1.38, "low": 1.35, "high": 1.41}),
                latency(60.0, batch=4, speedup={"value": 1.35, "low": 1.33, "high": 1.37}),
            ],
            "memory": memory(97.2),
            "audit": {
                "integer_mac_share": 0.9731,
                "leftovers": [
                    {"node": "/blocks.0/attn/Softmax", "op": "Softmax", "reason": "no integer kernel"},
                    {"node": "/head/Gemm", "op": "Gemm", "reason": "kept in float by the recipe"},
                ],
                "unfused": ["/blocks.3/mlp/act/Gelu <script>"],
                "nodes": 412,
            },
            "parity": {
                "torch_vs_onnx": {"max_abs": 0.0021, "sqnr_db": 58.1, "top1_agreement": 1.0},
                "onnx_vs_simplified": {"max_abs": 0.0, "sqnr_db": "Infinity", "top1_agreement": 1.0},
            },
        },
        {
            "name": "int8-tensorrt",
            "target": "tensorrt",
            "file": "int8-tensorrt.onnx",
            "size_bytes": 23 * MiB,
            "size_ratio": 1.0,
            "note": "exported and checked; not run here",
        },
    ],
}


@pytest.fixture
def summary_dict() -> dict[str, Any]:
    return copy.deepcopy(SUMMARY)


@pytest.fixture
def summary(summary_dict: dict[str, Any]) -> Summary:
    return Summary.model_validate(summary_dict)


@pytest.fixture
def changed(summary_dict: dict[str, Any]) -> Callable[..., Summary]:
    """Build the summary with entries of its INT8 variant replaced."""

    def build(**entries: Any) -> Summary:
        summary_dict["variants"][1] |= entries
        return Summary.model_validate(summary_dict)

    return build
