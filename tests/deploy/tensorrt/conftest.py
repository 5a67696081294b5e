"""Models for the builder."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """A float layer [N, 32] → [N, 16]."""
    path = tmp_path / "linear.onnx"
    save_linear(path, "N")
    return path


def save_linear(path: Path, batch: int | str, inner: int | str = 32) -> None:
    weight = np.random.default_rng(0).normal(size=(32, 16)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc/MatMul")],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, inner])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 16])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10), path)
