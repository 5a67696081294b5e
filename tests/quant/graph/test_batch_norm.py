import pytest
import torch
from torch import nn

from quant.graph import capture
from quant.graph.nodes import is_call

aten = torch.ops.aten


def with_statistics(model: nn.Module) -> nn.Module:
    """The model in eval mode and float64, its norms with statistics that matter."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.1, 4.0)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model.double().eval()


def norms(graph: torch.fx.GraphModule) -> int:
    return sum(is_call(n, aten.batch_norm.default) for n in graph.graph.nodes)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)), (2, 3, 8, 8)),
        (nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)), (2, 3, 8, 8)),
        (nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6, eps=1e-3)), (2, 4, 8, 8)),
        (nn.Sequential(nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6, affine=False)), (2, 3, 4, 4)),
        (nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6)), (2, 5)),
    ],
    ids=["bias", "no-bias", "grouped", "no-affine", "linear"],
)
def test_folded_equals_unfolded(model, shape):
    torch.manual_seed(0)
    model = with_statistics(model)
    graph = capture(model, torch.randn(shape, dtype=torch.float64))
    x = torch.randn(3, *shape[1:], dtype=torch.float64)
    assert norms(graph) == 0
    torch.testing.assert_close(graph(x), model(x), rtol=1e-12, atol=1e-12)  # float64 rounding


class TwoReaders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.bn(y) + y


class SharedLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn1, self.bn2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn2(self.conv(self.bn1(self.conv(x))))


class ChannelsElsewhere(nn.Module):
    """The linear layer's channels are the last axis, the norm's axis 1; both have 4."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.linear(x))


class ComputedBias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.offset = nn.Parameter(torch.randn(3, 3, 1, 1)), nn.Parameter(torch.randn(3))
        self.bn = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(nn.functional.conv2d(x, self.weight, self.offset * 2))


@pytest.mark.parametrize(
    ("model", "shape", "left"),
    [
        (TwoReaders(), (2, 3, 4, 4), 1),
        (SharedLayer(), (2, 3, 4, 4), 2),
        (ChannelsElsewhere(), (2, 4, 4), 1),
        (ComputedBias(), (2, 3, 4, 4), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_fold_stays_and_the_output_is_right(model, shape, left):
    torch.manual_seed(0)
    model = with_statistics(model)
    x = torch.randn(shape, dtype=torch.float64)
    graph = capture(model, x)
    assert norms(graph) == left
    torch.testing.assert_close(graph(x), model(x), rtol=1e-12, atol=1e-12)  # float64 rounding


def test_a_bias_of_another_name_is_the_one_that_changes():
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kernel, self.offset = nn.Parameter(torch.randn(3, 3, 1, 1)), nn.Parameter(torch.randn(3))
            self.bn = nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bn(nn.functional.conv2d(x, self.kernel, self.offset))

    torch.manual_seed(0)
    model, x = with_statistics(Named()), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    graph = capture(model, x)
    assert norms(graph) == 0
    torch.testing.assert_close(graph(x), model(x), rtol=1e-12, atol=1e-12)  # float64 rounding
