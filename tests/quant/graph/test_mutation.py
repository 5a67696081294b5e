import pytest
import torch
from torch import nn

from quant.errors import Unsupported
from quant.graph import capture


class Outer(nn.Module):
    """Runs ``function`` inside a module called ``inner`` on a tensor that is not the user's."""

    def __init__(self, function) -> None:
        super().__init__()
        self.inner = Inner(function)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x * 1.0)


class Inner(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def read_again(x):
    y = torch.relu_(x)
    return x - 2 * y


def added_then_read(x):
    before = x * 3
    x += 1
    x.mul_(before)
    return x + before


def chain(x):
    return nn.functional.hardswish(x, inplace=True).clamp_(0.1, 0.5).add_(x)


def view_only_read(x):
    y = x.view(-1, 2, 3)
    y.relu_()
    return y * 2


@pytest.mark.parametrize("function", [read_again, added_then_read, chain, view_only_read])
def test_the_result_is_the_same_without_in_place_operators(function):
    torch.manual_seed(0)
    model, x = Outer(function).eval(), torch.randn(4, 6)
    graph = capture(model, x)
    assert torch.equal(graph(x), model(x))
    for node in graph.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            assert not node.target._schema.is_mutable


def base_read_later(x):
    x.view(-1, 2, 3).relu_()
    return x + 1


def view_read_later(x):
    y = x.view(-1, 2, 3)
    x.relu_()
    return y + 1


def part_written(x):
    x[:, 0] = 0.0
    return x + 1


@pytest.mark.parametrize("function", [base_read_later, view_read_later, part_written])
def test_writes_that_another_tensor_sees_are_refused(function):
    with pytest.raises(Unsupported, match=r"'inner' writes with aten\.\w+_"):
        capture(Outer(function).eval(), torch.randn(4, 6))
