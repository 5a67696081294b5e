"""The audit of a graph that another machine executed, beside the prediction."""

from pathlib import Path

import onnx
import torch

from benchmarks.arm64.audited import audit_arm, differences
from deploy.audit import audit_model
from deploy.onnxruntime.build import Optimization, SessionSettings, build_session


def saved(model: Path, out: Path, how: Optimization) -> Path:
    build_session(model, SessionSettings(optimization=how, optimized_model_path=out))
    return out


def test_a_graph_that_ran_in_float_is_not_what_was_predicted(
    vit: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    path, _ = vit
    graph = saved(path, tmp_path / "executed.onnx", Optimization.BASIC)  # leaves Q/DQ as they are
    operators = {node.op_type: 0 for node in onnx.load(graph).graph.node}
    found = audit_arm(path, graph, operators)
    assert found.predicted.weight_share == 1
    assert found.executed.weight_share == 0
    assert any("in float: 0 predicted, 1 executed" in line for line in found.differences)
    assert any("MACs in integers: 1 predicted, 0 executed" in line for line in found.differences)
    assert any(
        line.startswith("MatMul: ") and line.endswith("0 in the profile") for line in found.unlike_profile
    )


def test_the_same_graph_is_what_was_predicted(vit: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    path, _ = vit
    graph = saved(path, tmp_path / "executed.onnx", Optimization.ALL)
    predicted = audit_model(path, "ort-x86")
    assert differences(predicted, audit_model(path, "ort-x86", graph=graph)) == ()
