"""An engine belongs to the model it was built of, weights in other files included."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from deploy.tensorrt.build import EngineSettings
from deploy.tensorrt.cache import EngineCache
from deploy.tensorrt.engines import build_engine
from deploy.tensorrt.library import Library


def test_weights_in_another_file_make_another_engine(linear: Path, tmp_path: Path, rtx: Library) -> None:
    model = onnx.load(linear)
    weight = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float32)
    path, weights = tmp_path / "outside.onnx", tmp_path / "weights.bin"
    onnx.save(model, path, save_as_external_data=True, location=weights.name, size_threshold=0)
    cache = EngineCache(tmp_path / "engines")

    def build() -> tuple[bool, bytes]:
        engine = build_engine(path, EngineSettings(compute=("SM89",)), cache, rtx.key)
        return engine.fresh, engine.plan.read_bytes()

    first = build()
    assert first[0]
    assert build() == (False, first[1])
    weights.write_bytes((2 * weight).tobytes())
    fresh, plan = build()
    assert fresh
    assert plan != first[1]
