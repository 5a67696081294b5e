import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import benchmarks
from benchmarks.harness.process import Process, Subject
from benchmarks.harness.status import read_status
from benchmarks.memory import memory_of
from quant.errors import BadInput, InternalError, Unsupported

ROOT = Path(benchmarks.__file__).parents[1]


def linear(path: Path, width: int, batch: int | str = "batch", repeats: int = 1) -> Subject:
    """``repeats`` products with the same ``width``² float32 weights."""
    weight = np.random.default_rng(0).normal(size=(width, width)).astype(np.float32) / width
    names = ["input", *(f"h{i}" for i in range(repeats - 1)), "logits"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", [a, "w"], [b]) for a, b in pairwise(names)],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, width])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return Subject(path.stem, "onnxruntime", path)


@pytest.fixture
def images(tmp_path: Path) -> Callable[[int], Path]:
    def save(width: int) -> Path:
        file = tmp_path / f"images{width}.npy"
        np.save(file, np.ones((3, width), np.float32))
        return file

    return save


def test_longer_work_takes_longer_and_every_call_is_told(
    tmp_path: Path, images: Callable[[int], Path]
) -> None:
    light, heavy = linear(tmp_path / "light.onnx", 256), linear(tmp_path / "heavy.onnx", 256, repeats=40)
    medians = []
    for subject in (light, heavy):
        with Process(subject, threads=1) as process:
            process.feed(images(256), 64)
            assert len(process.run(1)) == 1
            medians.append(np.median(process.run(20)))
            assert process.load_ms > 0
    # Forty times the work; ten times leaves room for a busy machine. Both in ms: a light call is below 1 s.
    assert 1000 > medians[1] > 10 * medians[0]


def test_images_that_are_not_fed_cost_nothing(tmp_path: Path) -> None:
    many = tmp_path / "many.npy"
    np.save(many, np.ones((64 * 2**20 // 256, 64), np.float32))  # 64 MiB
    with Process(linear(tmp_path / "m.onnx", 64), threads=1) as process:
        process.feed(many, 1)
        process.run(2)
        assert process.footprint is not None
        # The model and a call of it take a few MiB; reading the file would add 64, a copy as many again.
        assert process.footprint.peak_mib - process.footprint.loaded_mib < 32


def test_larger_weights_cost_more_by_about_their_size(tmp_path: Path, images: Callable[[int], Path]) -> None:
    found = []
    ballast = np.ones(400 * 2**20 // 8)  # resident here; a child must not inherit it as its peak
    for width in (64, 2048):
        footprints = []
        for _ in range(2):
            with Process(linear(tmp_path / f"m{width}.onnx", width), threads=1) as process:
                process.feed(images(width), 1)
                process.run(3)
                assert process.footprint is not None
                footprints.append(process.footprint)
        found.append(memory_of(footprints, batch=1, threads=1))
    small, large = found
    assert ballast.size > 0
    # 2048² float32 are 16 MiB. They are held at least once (1 MiB for the pages of the small model), and
    # while loading at most a few times over.
    assert large.load_delta_mib - small.load_delta_mib >= 15
    assert large.peak_delta_mib - small.peak_delta_mib < 16 * 6
    assert large.imported_mib < large.loaded_mib <= large.peak_mib < 300
    assert large.peak_mib == sorted(large.peaks_mib)[0]
    assert large.peak_delta_mib == pytest.approx(large.peak_mib - large.imported_mib)
    with pytest.raises(BadInput):
        memory_of([], batch=1, threads=1)


def test_the_worker_imports_no_training_framework() -> None:
    code = (
        "import sys, benchmarks.harness.worker\n"
        "print([m for m in ('torch', 'timm', 'onnx', 'onnxruntime', 'pydantic', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_process_is_bound_to_its_processors(tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    with Process(linear(tmp_path / "m.onnx", 8), threads=1, cpus=(cpu,)) as process:
        assert os.sched_getaffinity(process._process.pid) == {cpu}


def test_processors_that_are_not_there_are_the_users_error(tmp_path: Path) -> None:
    subject = linear(tmp_path / "m.onnx", 8)
    with pytest.raises(BadInput, match=r"processors \[9999\] cannot be used .* usable: \d"):
        Process(subject, threads=1, cpus=(9999,)).__enter__()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": Path("no.onnx")}, "no.onnx"),
        ({"backend": "tflite"}, "there is no backend 'tflite'; there are onnxruntime"),
        ({"options": {"provider": "x"}}, "unknown session settings provider"),
        ({"options": {"optimization": "fast"}}, "known: off, basic, all"),
    ],
)
def test_what_cannot_be_opened_is_the_users_error(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    subject = linear(tmp_path / "m.onnx", 8)
    with pytest.raises(BadInput, match=message), Process(Subject(**vars(subject) | change), threads=1):
        pass


def test_images_that_do_not_fit_are_the_users_error(tmp_path: Path, images: Callable[[int], Path]) -> None:
    with Process(linear(tmp_path / "fixed.onnx", 8, batch=2), threads=1) as process:
        process.feed(images(8), 1)
        with pytest.raises(BadInput, match=r"fixed: .*given shape \[1, 8\], the model expects \[2, 8\]"):
            process.run(1)
        process.feed(images(8), 2)
        assert len(process.run(1)) == 1


def test_a_missing_provider_is_unsupported(tmp_path: Path) -> None:
    subject = Subject(**vars(linear(tmp_path / "m.onnx", 8)) | {"options": {"providers": ["migraphx"]}})
    with pytest.raises(BadInput, match="unknown execution provider 'migraphx'"), Process(subject, threads=1):
        pass
    subject = Subject(**vars(linear(tmp_path / "m.onnx", 8)) | {"options": {"providers": ["cuda"]}})
    with pytest.raises(Unsupported, match="pip install onnxruntime-gpu"), Process(subject, threads=1):
        pass


def test_a_process_that_dies_says_how(tmp_path: Path) -> None:
    with Process(linear(tmp_path / "m.onnx", 8), threads=1) as process:
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(Unsupported, match="SIGKILL, perhaps for want of memory"):
            process.run(1)


def test_an_order_that_takes_too_long_is_given_up(tmp_path: Path, images: Callable[[int], Path]) -> None:
    with Process(linear(tmp_path / "m.onnx", 512), threads=1) as process:
        process.feed(images(512), 512)
        process._timeout_s = 0.05
        with pytest.raises(BadInput, match=r"longer than 0\.05 s"):
            process.run(10_000)
    assert process._process.poll() is not None


def test_no_process_is_left_behind(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="ours"),
        Process(linear(tmp_path / "m.onnx", 8), threads=1) as process,
    ):
        raise ValueError("ours")
    assert process._process.poll() == 0


def test_what_is_no_answer_is_our_error(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho hello\ncat > /dev/null\n")
    fake.chmod(0o755)
    subject = Subject("m", "onnxruntime", tmp_path / "m.onnx", interpreter=fake)
    with pytest.raises(InternalError, match="not an answer: b'hello"), Process(subject, threads=1):
        pass


def test_another_interpreter_finds_our_packages(tmp_path: Path, images: Callable[[int], Path]) -> None:
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o755)
    subject = Subject(**vars(linear(tmp_path / "m.onnx", 8)) | {"interpreter": other})
    with Process(subject, threads=1) as process:
        process.feed(images(8), 1)
        assert len(process.run(2)) == 2


def test_the_worker_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom benchmarks.harness.process import Process, Subject\n"
        "with Process(Subject('m', 'onnxruntime', Path(sys.argv[1])), threads=1) as p:\n"
        "    print(p._process.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    model = linear(tmp_path / "m.onnx", 8).model
    done = subprocess.run(
        [sys.executable, "-c", code, model], capture_output=True, text=True, cwd=ROOT, check=False
    )
    child = Path(f"/proc/{done.stdout.strip()}")
    deadline = time.monotonic() + 10
    while child.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.exists()


def test_status_is_read_in_mib(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nVmHWM:\t  2048 kB\n")
    assert read_status("VmHWM", status) == 2.0
    with pytest.raises(BadInput, match="VmRSS"):
        read_status("VmRSS", status)
