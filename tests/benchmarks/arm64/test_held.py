"""The model with its roundings taken out is the model, and shows where another runtime is wrong."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from benchmarks.arm64.held import Held, compare_held, hold
from benchmarks.arm64.jobs import Job, do_here
from deploy.onnxruntime.build import Optimization
from deploy.runner import Array

Lowered = tuple[Path, torch.Tensor]


def codes_of(held: Held, images: torch.Tensor) -> tuple[dict[str, Array], Array]:
    """The codes and the logits of the model as it was."""
    (value,), output = held.whole.graph.input, held.outputs[-1]
    feed = {value.name: images.numpy()}
    asked = (*held.codes, output)
    job = Job("whole", held.whole.SerializeToString(), [feed], asked, Optimization.OFF)
    made = dict(do_here(job).outputs)
    return {name: made[name] for name in held.codes} | {name: feed[name] for name in held.own}, made[output]


def parts_of(
    model: onnx.ModelProto, held: Held, feed: dict[str, Array], how: Optimization
) -> dict[str, Array]:
    return dict(do_here(Job("held", model.SerializeToString(), [feed], held.outputs, how)).outputs)


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_with_its_own_codes_it_is_the_model(kind: str, request: pytest.FixtureRequest) -> None:
    path, images = request.getfixturevalue(kind)
    held = hold(onnx.load(path))
    feed, logits = codes_of(held, images)
    parts = parts_of(held.model, held, feed, Optimization.OFF)
    np.testing.assert_array_equal(parts[held.outputs[-1]], logits)
    rounded = [one for one in held.roundings if one.values in parts]
    assert rounded
    for one in rounded:  # and what it gives is what was rounded to them
        np.testing.assert_array_equal(one.quantized(parts[one.values]), feed[one.codes])


def test_fused_kernels_give_the_same_from_the_same_codes(vit: Lowered) -> None:
    path, images = vit
    held = hold(onnx.load(path))
    feed, _ = codes_of(held, images)
    defined, fused = (parts_of(held.model, held, feed, how) for how in (Optimization.OFF, Optimization.ALL))
    found = compare_held(held, fused, defined)
    assert found.places == len(held.outputs) == 6
    assert found.worst < 1e-5  # float32 sums in another order
    assert found.logits <= found.worst


def test_a_layer_that_computes_something_else_is_named(vit: Lowered) -> None:
    path, images = vit
    model = onnx.load(path)
    held = hold(model)
    feed, _ = codes_of(held, images)
    wrong = onnx.ModelProto()
    wrong.CopyFrom(held.model)
    bias = next(tensor for tensor in wrong.graph.initializer if tensor.name.endswith("blocks.0.mlp.fc1.bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * np.float32(1.001), bias.name))
    right = parts_of(held.model, held, feed, Optimization.OFF)
    found = compare_held(held, parts_of(wrong, held, feed, Optimization.OFF), right)
    assert 1e-5 < found.worst < 1e-2
    assert found.flipped > 0
    (reader,) = [one for one in held.roundings if one.values == found.where]
    quantize = next(node for node in model.graph.node if node.output[0] == reader.codes)
    assert "mlp.fc2" in quantize.input[1]  # it reads what fc1 gave


def test_a_convolution_keeps_the_rounding_that_ends_its_kernel(cnn: Lowered) -> None:
    held = hold(onnx.load(cnn[0]))
    operators = [node.op_type for node in held.model.graph.node]
    assert operators.count("Conv") > 0
    assert "QuantizeLinear" in operators
    producer = {name: node.op_type for node in held.whole.graph.node for name in node.output}
    assert all(producer[one.values] != "Conv" for one in held.roundings if one.values in producer)
