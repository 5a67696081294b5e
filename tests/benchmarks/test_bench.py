import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from benchmarks.bench import BenchSettings, Candidate, bench_variants, file_size
from deploy.onnxruntime.build import SessionSettings
from quant.errors import BadInput

QUIET = Console(file=io.StringIO())
CLASSES = 6


@dataclass(frozen=True)
class Batch:
    images: np.ndarray
    labels: np.ndarray


def weights(noise: float) -> np.ndarray:
    generator = np.random.default_rng(1)
    weight = generator.normal(size=(12, CLASSES))
    return (weight + noise * generator.normal(size=weight.shape)).astype(np.float32)


def save_model(path: Path, noise: float = 0.0, *, external: bool = False) -> Path:
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(weights(noise), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path, save_as_external_data=external, location=f"{path.name}.data", size_threshold=0)
    return path


def batches() -> Iterator[Batch]:
    images = np.random.default_rng(0).normal(size=(50, 3, 2, 2)).astype(np.float32)
    labels = (images.reshape(50, -1) @ weights(0.0)).argmax(axis=1)
    for i in range(0, 50, 16):
        yield Batch(images[i : i + 16], labels[i : i + 16])


def candidate(name: str, path: Path) -> Candidate:
    return Candidate(name, "ort-x86", path, SessionSettings())


def test_variants_are_measured_against_the_reference(tmp_path: Path) -> None:
    settings = BenchSettings.model_validate(
        {
            "latency": {"warmup": 1, "calls": 12, "batch_sizes": [1, 40], "threads": [1, 2]},
            "memory_repeats": 1,
        }
    )
    noisy = save_model(tmp_path / "noisy.onnx", noise=1.0, external=True)
    fp32 = save_model(tmp_path / "fp32.onnx")
    found = bench_variants(
        [candidate("noisy", noisy), candidate("fp32", fp32)], batches, settings, console=QUIET
    )
    other, base = found
    assert [v.name for v in found] == ["noisy", "fp32"]
    assert base.accuracy is not None
    assert other.accuracy is not None
    # The labels are the exact model's own answers, so only the noisy one can be wrong.
    assert base.accuracy.top1 == 1.0
    assert base.accuracy.agreement is None
    assert other.accuracy.top1 == other.accuracy.agreement < 1.0
    assert base.latency is not None
    assert other.latency is not None
    assert [(e.threads, e.batch) for e in base.latency] == [(1, 1), (1, 40), (2, 1), (2, 40)]
    assert all(len(e.samples_ms) == 12 and e.speedup is not None for e in other.latency)
    assert base.memory is not None
    assert base.memory.peak_mib >= base.memory.imported_mib
    assert other.size_ratio == pytest.approx(base.size_bytes / other.size_bytes)


def test_size_counts_external_weights(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.onnx", external=True)
    assert file_size(path) == sum(f.stat().st_size for f in tmp_path.iterdir())
    (tmp_path / "m.onnx.data").unlink()
    with pytest.raises(BadInput, match=r"m\.onnx\.data"):
        file_size(path)


def test_a_file_that_is_no_model_has_no_size(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\xff\xff not a model")
    with pytest.raises(BadInput, match="not an ONNX model"):
        file_size(path)


def test_the_reference_must_be_there_and_names_must_differ(tmp_path: Path) -> None:
    model = save_model(tmp_path / "m.onnx")
    with pytest.raises(BadInput, match="'fp32'"):
        bench_variants([candidate("int8", model)], batches, BenchSettings(), console=QUIET)
    twice = [candidate("fp32", model), candidate("fp32", model)]
    with pytest.raises(BadInput, match="differ"):
        bench_variants(twice, batches, BenchSettings(), console=QUIET)
