from itertools import pairwise

import pytest
import timm
import torch
from torch import nn

from quant.graph import capture
from quant.graph.nodes import is_call, layer_name
from quant.tuning.segments import block_of, cut_points, segment_between, segments
from tests.export.small_models import images_of, tiny_vit

aten = torch.ops.aten


class Chain(nn.Module):
    """Two residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(4, 4)
        blocks = [nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4)) for _ in range(2)]
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def layers_of(graph: torch.fx.GraphModule) -> dict[torch.fx.Node, str]:
    kinds = (aten.linear.default, aten.conv2d.default)
    return {n: layer_name(n) for n in graph.graph.nodes if is_call(n, *kinds)}


@pytest.fixture
def graph():
    return capture(Chain().eval(), torch.randn(2, 4))


def test_a_cut_point_is_all_that_the_rest_reads(graph):
    additions = [n for n in graph.graph.nodes if is_call(n, aten.add.Tensor)]
    cuts = cut_points(graph)
    assert [n for n in cuts if n in additions] == additions
    inner = [n for n, name in layers_of(graph).items() if name.startswith("blocks")]
    assert not set(inner) & set(cuts)


def test_blocks_are_named_and_follow_each_other(graph):
    names = {n.name for n in graph.graph.nodes}
    found = segments(graph, layers_of(graph), names)
    assert [s.name for s in found] == ["stem", "blocks.0", "blocks.1", "head"]
    assert all(a.end is b.start for a, b in pairwise(found))


def test_the_halves_of_a_transformer_block_belong_together():
    graph = capture(tiny_vit().eval(), images_of(2, 3, 32, 32))
    found = segments(graph, layers_of(graph), {n.name for n in graph.graph.nodes})
    assert [s.name for s in found] == ["patch_embed.proj", "blocks.0", "head"]


def test_blocks_that_ask_for_the_batch_size_are_cut_like_others():
    """A captured transformer reads the size of its input in every attention layer."""
    torch.manual_seed(0)
    options = {
        "img_size": 32,
        "patch_size": 8,
        "depth": 3,
        "embed_dim": 48,
        "num_heads": 3,
        "num_classes": 10,
    }
    model = timm.create_model("vit_tiny_patch16_224", **options).eval()
    graph = capture(model, images_of(2, 3, 32, 32))
    found = segments(graph, layers_of(graph), {n.name for n in graph.graph.nodes})
    assert [s.name for s in found] == ["patch_embed.proj", "blocks.0", "blocks.1", "blocks.2", "head"]
    value = images = images_of(5, 3, 32, 32)
    for start, end in pairwise(cut_points(graph)):
        value = segment_between(graph, start, end)(value)
    assert torch.equal(value, graph(images))


def test_segments_one_after_the_other_are_the_graph(graph):
    x = torch.randn(5, 4)
    found = segments(graph, layers_of(graph), {n.name for n in graph.graph.nodes})
    value = x
    for segment in found:
        value = segment_between(graph, segment.start, segment.end)(value)
    assert torch.equal(value, graph(x))


def test_a_segment_shares_its_parameters(graph):
    part = segment_between(graph, *[n for n in cut_points(graph) if is_call(n, aten.add.Tensor)][:2])
    part.get_parameter("blocks.1.0.weight").data.zero_()
    assert not bool(graph.get_parameter("blocks.1.0.weight").any())


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("blocks.11.attn.qkv", "blocks.11"),
        ("layer2.0.conv1", "layer2.0"),
        ("blocks.1.0", "blocks.1"),
        ("conv1", "conv1"),
        ("features.3", "features.3"),
    ],
)
def test_a_block_ends_at_its_last_number(layer, block):
    assert block_of(layer) == block
