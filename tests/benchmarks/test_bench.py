import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from benchmarks.bench import BenchSettings, Candidate, bench_accuracy, bench_speed
from benchmarks.onnx_file import file_size
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


def test_accuracy_is_judged_against_the_reference(tmp_path: Path) -> None:
    noisy = Candidate("noisy", save_model(tmp_path / "noisy.onnx", noise=1.0, external=True))
    fp32 = Candidate("fp32", save_model(tmp_path / "fp32.onnx"))
    found = bench_accuracy([noisy, fp32], batches, BenchSettings(), console=QUIET)
    other, base = found["noisy"], found["fp32"]
    # The labels are the exact model's own answers, so only the noisy one can be wrong.
    assert base.top1 == 1.0
    assert base.agreement is None
    assert other.top1 == other.agreement < 1.0


def test_latency_and_memory_are_those_of_processes_side_by_side(tmp_path: Path) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    how = {
        "processes": 2,
        "warmup": 1,
        "calls": 7,
        "turn": 3,
        "batch_sizes": [1, 40],
        "threads": [1, len(cpus)],
    }
    other = Candidate("other", save_model(tmp_path / "other.onnx", external=True))
    fp32 = Candidate("fp32", save_model(tmp_path / "fp32.onnx"))
    images = np.random.default_rng(0).normal(size=(3, 3, 2, 2)).astype(np.float32)
    settings = BenchSettings.model_validate({"latency": how})
    speed = bench_speed([other, fp32], images, settings, console=QUIET)
    assert list(speed.latency) == list(speed.memory) == ["other", "fp32"]
    where = [(1, 1), (40, 1), (1, len(cpus)), (40, len(cpus))]
    for entries in speed.latency.values():
        assert [(e.batch, e.threads) for e in entries] == where
        assert all(e.by_process.shape == (2, 7) and len(e.warmup_ms) == 2 for e in entries)
        assert [e.cpus for e in entries] == [(cpus[-1],)] * 2 + [tuple(cpus)] * 2
    assert [(n.batch, n.threads) for n in speed.noise] == where
    assert all(e.speedup is not None for e in speed.latency["other"])
    assert all(e.speedup is None for e in speed.latency["fp32"])
    memory = speed.memory["other"]
    assert (memory.batch, memory.threads, len(memory.peaks_mib)) == (1, 1, 2)
    assert memory.peak_mib >= memory.loaded_mib >= memory.imported_mib


def test_fewer_processors_than_threads_leave_the_choice_to_the_system(tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    how = {"processes": 2, "warmup": 1, "calls": 1, "threads": [1, 2]}
    settings = BenchSettings.model_validate({"latency": how, "cpus": [cpu]})
    images = np.ones((1, 3, 2, 2), np.float32)
    speed = bench_speed([Candidate("fp32", save_model(tmp_path / "m.onnx"))], images, settings, console=QUIET)
    assert [e.cpus for e in speed.latency["fp32"]] == [(cpu,), None]


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


@pytest.mark.parametrize(("names", "message"), [(["int8"], "'fp32'"), (["fp32", "fp32"], "differ")])
def test_the_reference_must_be_there_and_names_must_differ(
    tmp_path: Path, names: list[str], message: str
) -> None:
    model = save_model(tmp_path / "m.onnx")
    candidates = [Candidate(name, model) for name in names]
    with pytest.raises(BadInput, match=message):
        bench_accuracy(candidates, batches, BenchSettings(), console=QUIET)
    with pytest.raises(BadInput, match=message):
        bench_speed(candidates, np.ones((1, 3, 2, 2), np.float32), BenchSettings(), console=QUIET)
