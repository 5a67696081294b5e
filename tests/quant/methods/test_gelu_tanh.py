import copy

import torch
from torch.nn import functional

from quant.graph.nodes import is_call
from tests.quant.methods.small_vit import calibrated, images, recipe, small_vit

aten = torch.ops.aten


def test_every_gelu_is_the_tanh_form_and_nothing_else_changes():
    model = copy.deepcopy(small_vit())
    result = calibrated(small_vit(), recipe({"name": "gelu_tanh"}))
    (note,) = result.notes
    assert (note.method, note.applied) == ("gelu_tanh", True)
    for graph in (result.graph, result.reference):
        (gelu,) = [n for n in graph.graph.nodes if is_call(n, aten.gelu.default)]
        assert gelu.kwargs["approximate"] == "tanh"
    x = images(7, seed=3)
    model.block.act = torch.nn.GELU(approximate="tanh")
    # The same operators of float32.
    torch.testing.assert_close(result.graph(x), model(x), rtol=1e-5, atol=1e-5)


def test_the_promised_difference_holds():
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    difference = (functional.gelu(x) - functional.gelu(x, approximate="tanh")).abs().max()
    assert 4.6e-4 < difference < 4.8e-4


def test_a_tanh_form_needs_no_note():
    once, twice = (calibrated(small_vit(), recipe(*[{"name": "gelu_tanh"}] * n)) for n in (1, 2))
    assert len(once.notes) == len(twice.notes) == 1
