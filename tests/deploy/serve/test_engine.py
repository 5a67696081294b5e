"""A bundle with an engine of TensorRT is served like any other; the GPU here is one in NumPy."""

import asyncio
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.bundle import Bundle, load_bundle
from deploy.bundle.layout import ENGINE, FORMAT, MANIFEST, PLAN, SUMS, VERSION, sums, zip_bytes
from deploy.bundle.manifest import to_json
from deploy.serve.metrics import Metrics
from deploy.serve.model import open_model
from deploy.serve.settings import ServeSettings
from deploy.tensorrt import cuda_graph
from deploy.tensorrt.cache import EngineCache, Identity
from deploy.tensorrt.library import Library
from deploy.tensorrt.settings import EngineSettings
from quant.errors import BadInput, Unsupported
from tests.deploy.tensorrt.fake_gpu import H100, FakeDriver, FakeTensorRt, fake_machine


@pytest.fixture(autouse=True)
def trt(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    module = FakeTensorRt()
    monkeypatch.setattr(
        "deploy.tensorrt.run.find_library", lambda _: Library("tensorrt", "TensorRT", "11.4.0", module)
    )
    monkeypatch.setattr("deploy.tensorrt.run.pycuda_machine", lambda _: fake_machine()[0])
    monkeypatch.setattr(cuda_graph, "_driver", lambda: FakeDriver())
    return module


def engine_bundle(folder: Path, batches: tuple[int, int, int] = (1, 2, 8), device: str = str(H100)) -> Bundle:
    about = {"model": "0" * 64, "library": "tensorrt", "version": "11.4.0", "device": device}
    identity = Identity(**about, settings=EngineSettings(batches=batches))
    plan = EngineCache(folder / "cache").get(identity, lambda path: path.write_bytes(b"engine")).plan
    files = {PLAN: plan.read_bytes(), ENGINE: plan.with_suffix(".json").read_bytes()}
    told = {
        "format": FORMAT, "version": VERSION, "model": {"name": "sums"}, "variant": "int8",
        "target": "tensorrt", "task": "classification", "saturation_guard": None,
        "measured": {"providers": []}, "preprocessing": {"kind": "none", "input_size": [4]},
        "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 4]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [None, 2]}],
        "files": {n: {"sha256": sha256(c).hexdigest(), "bytes": len(c)} for n, c in files.items()},
    }  # fmt: skip
    files[MANIFEST] = to_json(told)
    files[SUMS] = sums(files)
    path = folder / "engine.zip"
    path.write_bytes(zip_bytes(files))
    return load_bundle(path, "tensorrt")


def rows(count: int) -> Any:
    return np.random.default_rng(count).standard_normal((count, 4)).astype(np.float32)


def test_it_is_opened_warmed_up_batched_and_closed(tmp_path: Path, trt: FakeTensorRt) -> None:
    bundle = engine_bundle(tmp_path)
    assert bundle.batches == (1, 8)

    async def whole() -> None:
        model = open_model(None, bundle, ServeSettings(workers=2, max_batch=32), Metrics())
        await asyncio.get_running_loop().run_in_executor(None, model.warm_up)
        model.start()
        until = time.perf_counter() + 10
        for got, x in zip(
            await asyncio.gather(*(model.infer(rows(n), until) for n in (1, 3, 8, 20))),
            map(rows, (1, 3, 8, 20)),
            strict=True,
        ):
            assert np.array_equal(got.outputs, np.stack([x.sum(1), x.max(1)], axis=1))
        await model.close()

    asyncio.run(whole())
    assert len(trt.engine.contexts) == 2  # one for each worker
    assert trt.deserialized == 1


def test_one_that_takes_no_single_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="takes no fewer than 2 samples"):
        open_model(None, engine_bundle(tmp_path, (2, 4, 8)), ServeSettings(), Metrics())


def test_where_no_temporary_file_can_be_written_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = engine_bundle(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BadInput, match=r"No space left on device\); in a container give --tmpfs /tmp"):
        open_model(None, bundle, ServeSettings(), Metrics())


def test_one_for_another_gpu_is_refused(tmp_path: Path) -> None:
    bundle = engine_bundle(tmp_path, device="NVIDIA L4 (SM89)")
    with pytest.raises(BadInput, match="NVIDIA L4"):
        open_model(None, bundle, ServeSettings(), Metrics())
