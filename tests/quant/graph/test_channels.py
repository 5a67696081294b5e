import torch
from torch import nn

from quant.graph import capture
from quant.graph.channels import channels_behind, channels_of, sinks
from quant.graph.nodes import is_call
from tests.quant.methods.small_vit import HEADS, TOKENS, WIDTH, captured, small_vit

aten = torch.ops.aten


def test_a_fused_projection_is_followed_to_each_factor_of_the_products():
    graph = captured(small_vit())
    scores, values = (n for n in graph.graph.nodes if is_call(n, aten.matmul.default))
    heads = torch.arange(3 * WIDTH).reshape(3, HEADS, WIDTH // HEADS)  # rows of qkv: q, k, v by head
    operands = [scores.args[0], scores.args[1].args[0], values.args[1]]
    for part, operand in zip(heads, operands, strict=True):
        source, channels = channels_of(operand)
        assert source.args[1].target == "block.qkv.weight"
        assert channels.shape == (2, HEADS, TOKENS, WIDTH // HEADS)
        assert torch.equal(channels, part[:, None, :].expand(channels.shape))


def test_the_layer_behind_an_attention_is_found_with_its_channels():
    graph = captured(small_vit())
    _, product = (n for n in graph.graph.nodes if is_call(n, aten.matmul.default))
    by_head = torch.arange(WIDTH).reshape(HEADS, 1, -1)
    ((linear, channels),) = channels_behind(product, by_head.expand(2, HEADS, TOKENS, -1))
    assert linear.args[1].target == "block.proj.weight"
    assert channels.tolist() == list(range(WIDTH))


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return self.second(y.transpose(1, 2).contiguous()) + y.sum()


def test_mixed_channels_and_other_readers_are_seen():
    graph = capture(Mixing().eval(), torch.randn(2, 6, 6))
    first, second = (n for n in graph.graph.nodes if is_call(n, aten.linear.default))
    ids = torch.arange(6).expand(2, 6, 6)
    assert channels_behind(first, ids) is None  # the sum reads it
    moved = second.args[0]
    assert channels_behind(moved, channels_of(moved)[1]) is None  # tokens have become channels
    assert {reader.target for reader, _ in sinks(first)} == {aten.linear.default, aten.sum.default}
