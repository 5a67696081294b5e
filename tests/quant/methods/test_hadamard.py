import numpy as np
import pytest
import torch
from scipy.linalg import hadamard as sylvester
from torch import nn

from quant.errors import BadInput
from quant.graph import capture
from quant.graph.nodes import is_call, tensor_of
from quant.methods import Statistics, make_method
from quant.methods.hadamard import hadamard_matrix, rotation
from quant.recipe import load_recipe
from quant.watch import watch
from tests.export.small_models import images_of, tiny_vit

aten = torch.ops.aten
RECIPE = load_recipe("int8")


@pytest.mark.parametrize("size", [1, 2, 16, 12, 48, 192, 384, 20, 24])
def test_hadamard_matrices_are_of_ones_with_orthogonal_rows(size):
    matrix = hadamard_matrix(size).numpy()
    assert set(np.unique(matrix)) <= {-1.0, 1.0}
    assert np.array_equal(matrix @ matrix.T, size * np.eye(size))
    if size in (2, 16):
        assert np.array_equal(matrix, sylvester(size))


def test_a_size_without_matrix_is_refused():
    with pytest.raises(BadInput, match="13 channels"):
        hadamard_matrix(13)


def test_the_rotation_is_orthogonal_keeps_ones_and_depends_on_the_seed():
    first, second = rotation(48, 0), rotation(48, 1)
    torch.testing.assert_close(first @ first.T, torch.eye(48).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(first.sum(1), torch.ones(48).double(), rtol=0, atol=1e-12)
    assert not torch.equal(first, second)
    assert torch.equal(first, rotation(48, 0))


@pytest.fixture
def rotated():
    images = images_of(4, 3, 32, 32)
    before, after = (capture(spiky_vit(), images[:2]) for _ in range(2))
    (note,) = make_method("hadamard", {}).apply(after, Statistics(), RECIPE)
    return before, after, note, images


def spiky_vit() -> nn.Module:
    """A model with one large channel in the stream, as trained ones have."""
    model = tiny_vit()
    with torch.no_grad():
        model.blocks[0].attn.proj.bias[5] += 40.0
        for norm in (model.blocks[0].norm1, model.blocks[0].norm2, model.norm):
            norm.weight.uniform_(0.5, 2.0)
    return model.eval()


def test_the_function_stays_the_same(rotated):
    before, after, note, images = rotated
    assert note.applied
    # float32 sums in another order: a few units in the last place of logits near 1
    torch.testing.assert_close(after(images), before(images), rtol=0, atol=2e-5)


def test_no_channel_of_the_stream_stands_out_any_more(rotated):
    before, after, _, images = rotated
    ratios = []
    for graph in (before, after):
        norm = [n for n in graph.graph.nodes if is_call(n, aten.layer_norm.default)][1]
        seen = []
        watch(graph, [norm.args[0]], images, lambda _, value, seen=seen: seen.append(value))
        peak = seen[0].abs().amax(dim=(0, 1))
        ratios.append(float(peak.max() / peak.median()))
    assert ratios[0] > 10
    assert ratios[1] < 4


def test_layer_norms_lose_their_parameters(rotated):
    _, after, _, _ = rotated
    for node in after.graph.nodes:
        if is_call(node, aten.layer_norm.default):
            assert bool((tensor_of(after, node.args[2].target) == 1).all())
            assert bool((tensor_of(after, node.args[3].target) == 0).all())


class Scaled(nn.Module):
    """A branch with LayerScale: the stream is not written by a linear layer alone."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc, self.scale = nn.LayerNorm(16), nn.Linear(16, 16), nn.Parameter(torch.ones(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.scale * self.fc(self.norm(x))
        return self.fc(self.norm(x))


class NoNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


@pytest.mark.parametrize(("model", "reason"), [(Scaled(), "writes the stream"), (NoNorm(), "no LayerNorm")])
def test_other_models_are_left_alone_with_a_reason(model, reason):
    x = torch.randn(2, 3, 16)
    graph = capture(model.eval(), x)
    before = graph(x)
    (note,) = make_method("hadamard", {}).apply(graph, Statistics(), RECIPE)
    assert not note.applied
    assert reason in note.text
    assert torch.equal(graph(x), before)
