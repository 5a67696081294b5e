import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks.results import Summary
from deploy.audit.leftovers import Category, Leftover
from deploy.audit.macs import Kind
from deploy.audit.report import AuditReport, Multiplication
from deploy.audit.rules import Finding
from deploy.audit.saturation import SaturationRisk
from deploy.cpu import CpuInfo

MiB = 2**20


def latency(median: float, *, batch: int = 1, speedup: dict[str, float] | None = None) -> dict[str, Any]:
    """A plausible latency entry whose 60 samples of 5 processes scatter around ``median`` ms with a tail."""
    generator = np.random.default_rng(round(median * 100))
    samples = (median + np.abs(generator.normal(0, 0.03 * median, 60))).tolist()
    samples[17] = 1.8 * median
    low, p90, p99 = (float(np.percentile(samples, q)) for q in (50, 90, 99))
    return {
        "batch": batch,
        "threads": 2,
        "processes": 5,
        "cpus": [6, 7],
        "load_ms": 9.0 * median,
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


def audited() -> dict[str, Any]:
    """A real report of the audit, as it lies in a summary."""
    finding = Finding("shared-quantizer", "the input <q> has two readers", "give each its own")
    cpu = CpuInfo("Example CPU 9000", "x86_64", ("avx2",), 8)
    multiplications = (
        Multiplication("blocks.0.attn.qkv", "n0", "QGemm", "Gemm", Kind.LINEAR, 900, True, True, ()),
        Multiplication(
            "blocks.0.mlp.fc1", "n1", "MatMul", "MatMul", Kind.LINEAR, 60, False, True, (finding,)
        ),
        Multiplication("blocks.0.attn", "n2", "MatMul", "MatMul", Kind.ACTIVATION, 40, False, False, ()),
    )
    pair, edge = Category.PAIR, Category.FEEDS_INTEGER
    leftovers = (
        Leftover("l0", "QuantizeLinear", "blocks.0", 64, edge, False, ("QGemm",)),
        Leftover("l1", "DequantizeLinear", "blocks.0", 64, pair, True, ("Add",)),
        Leftover("l2", "DequantizeLinear", "blocks.1", 64, pair, True, ("Add",)),
    )
    risks = (SaturationRisk("blocks.0.attn.qkv", "QGemm", 3, 96, 40000),)
    report = AuditReport(
        "m.onnx", "ort-x86", "1.31.1", cpu, {"input": (1, 3, 224, 224)}, multiplications, leftovers, risks, ()
    )
    return report.to_dict()


AUDIT = audited()

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
            "audit": AUDIT,
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
