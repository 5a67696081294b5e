import pytest
import torch
from torch import nn

from quant.graph import capture
from quant.graph.nodes import is_call, tensor_of
from quant.methods import ChannelRange, MethodNote, Statistics, make_method
from quant.recipe import Recipe, parse
from quant.watch import watch

aten = torch.ops.aten
RECIPE = parse(
    Recipe,
    {
        "name": "t",
        "specs": {"a8": {"bits": 8}, "w8": {"signed": True, "symmetric": True}},
        "roles": {"linear.input": "a8", "linear.weight": "w8"},
    },
    "t",
)


class NormLinear(nn.Module):
    """LayerNorm over 6 uneven channels, ``between``, and a linear layer."""

    def __init__(self, between=lambda x: x, bias: bool = True) -> None:
        super().__init__()
        self.norm, self.fc, self.between = nn.LayerNorm(6), nn.Linear(6, 5, bias=bias), between
        self.norm.weight = nn.Parameter(torch.tensor([0.05, 1.0, 8.0, -2.0, 0.3, 1.0]))
        self.norm.bias = nn.Parameter(torch.tensor([0.5, -1.0, 4.0, 0.0, 0.0, 9.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.between(self.norm(x)))


def fold(model: nn.Module, x: torch.Tensor, zero_point: str = "integer", recipe: Recipe = RECIPE):
    """The graph before, the graph after, the notes and the ranges (before, after) of the one LayerNorm."""
    torch.manual_seed(0)
    before, after = capture(model.eval(), x), capture(model.eval(), x)
    method = make_method("layer_norm_linear", {"zero_point": zero_point})
    ranges = Statistics()

    def see(node, value):
        flat = value.reshape(-1, value.shape[-1])
        ranges[node] = ChannelRange(flat.amin(0), flat.amax(0))

    watch(after, method.watched(after), x, see)
    (norm,) = ranges
    seen = ranges[norm]
    notes: list[MethodNote] = method.apply(after, ranges, recipe)
    return before, after, notes, seen, ranges[norm]


def norm_output(graph: torch.fx.GraphModule, x: torch.Tensor) -> torch.Tensor:
    found = []
    norms = [n for n in graph.graph.nodes if is_call(n, aten.layer_norm.default)]
    watch(graph, norms, x, lambda _, value: found.append(value))
    return found[0]


@pytest.mark.parametrize("zero_point", ["integer", "zero"])
def test_the_output_is_equal_and_common_codes_are_the_channels_own(zero_point):
    torch.manual_seed(0)
    model, x = NormLinear(), torch.randn(16, 7, 6)
    before, after, notes, seen, told = fold(model, x, zero_point)
    assert [(n.layer, n.applied) for n in notes] == [("norm", True)]
    # float32 rounding of values near 10
    torch.testing.assert_close(after(x), before(x), rtol=1e-5, atol=2e-5)

    old, new = norm_output(before, x).double(), norm_output(after, x).double()  # x and x~
    low, high = seen.low.double().clamp(max=0), seen.high.double().clamp(min=0)
    scale = (high - low) / 255  # s_c
    zero = (-low / scale).round()  # z_c
    common_scale = scale.mean()
    common_zero = 128.0 if zero_point == "zero" else zero.mean().round()
    codes, own = new / common_scale + common_zero, old / scale + zero
    # in codes; float32 keeps 2^-24 of up to 255 codes
    torch.testing.assert_close(codes, own, rtol=0, atol=1e-3)
    assert float(codes.min()) > -1
    assert float(codes.max()) < 256
    torch.testing.assert_close(told.low.double(), new.flatten(0, 1).amin(0), rtol=0, atol=1e-4)
    torch.testing.assert_close(told.high.double(), new.flatten(0, 1).amax(0), rtol=0, atol=1e-4)


def windows(x: torch.Tensor) -> torch.Tensor:
    """Swin's cyclic shift and window partition of [B, 4, 4, C] into [4 B, 4, C]."""
    x = torch.roll(x, shifts=(-1, -1), dims=(1, 2)).view(-1, 2, 2, 2, 2, 6)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 4, 6)


@pytest.mark.parametrize(
    "between",
    [
        windows,
        lambda x: x[:, 1:, 0],
        lambda x: x.flatten(1, 2).transpose(0, 1),
        lambda x: torch.roll(x, 1, dims=1),
    ],
)
def test_it_folds_through_what_only_moves_tokens(between):
    torch.manual_seed(0)
    x = torch.randn(3, 4, 4, 6)
    before, after, notes, *_ = fold(NormLinear(between), x)
    assert notes[0].applied
    # float32 rounding of values near 10
    torch.testing.assert_close(after(x), before(x), rtol=1e-5, atol=2e-5)
    assert not torch.equal(tensor_of(after, "fc.weight"), tensor_of(before, "fc.weight"))


@pytest.mark.parametrize(
    "between",
    [
        lambda x: nn.functional.pad(x, (0, 0, 0, 1)),
        lambda x: torch.roll(x, 1, dims=-1),
        lambda x: torch.roll(x, 1),
        lambda x: x.flip(-1),
        lambda x: x[:, :6, :6].transpose(1, 2),
        lambda x: x.reshape(-1, 3).reshape(-1, 6) + 1,
        lambda x: x.mean(1),
    ],
    ids=["padding", "roll-channels", "roll-flat", "flip", "transpose", "add", "mean"],
)
def test_it_declines_where_values_or_channels_change(between):
    torch.manual_seed(0)
    x = torch.randn(3, 6, 6)
    before, after, notes, *_ = fold(NormLinear(between), x)
    assert [(n.applied, n.text) for n in notes] == [(False, "something other than linear layers reads it")]
    assert torch.equal(after(x), before(x))


class Tapped(NormLinear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return self.fc(y) + y.sum(-1, keepdim=True)


class TwoLinears(NormLinear):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return self.fc(y) * self.other(y)


class SharedLinear(NormLinear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(x)) + self.fc(x)


class TwoAxes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm((7, 6)), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.norm(x))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Tapped(), "something other than linear layers reads it"),
        (NormLinear(bias=False), "'fc' has no weight or no bias to fold into"),
        (SharedLinear(), "'fc.weight' is shared with another layer"),
        (TwoAxes(), "it normalizes more than the last axis"),
    ],
    ids=["tapped", "no-bias", "shared", "two-axes"],
)
def test_it_says_why_it_declines(model, reason):
    x = torch.randn(3, 7, 6)
    before, after, notes, *_ = fold(model, x)
    assert [(n.layer, n.applied, n.text) for n in notes] == [("norm", False, reason)]
    assert torch.equal(after(x), before(x))


def test_several_linear_layers_share_one_fold_if_quantized_alike():
    x = torch.randn(3, 7, 6)
    before, after, notes, *_ = fold(TwoLinears(), x)
    assert notes[0].applied
    assert "fc, other" in notes[0].text
    torch.testing.assert_close(after(x), before(x), rtol=1e-4, atol=1e-4)  # a product of two values near 10
    some = RECIPE.model_copy(update={"exclude": ("other",)})
    *_, notes, _, _ = fold(TwoLinears(), x, recipe=some)
    assert [n.text for n in notes] == ["the linear layers behind it are not quantized alike"]


def test_channels_and_norms_that_are_always_zero_do_no_harm():
    for dead in (slice(0, 2), slice(None)):
        model, x = NormLinear(), torch.randn(3, 7, 6)
        with torch.no_grad():
            model.norm.weight[dead] = 0.0
            model.norm.bias[dead] = 0.0
        before, after, notes, *_ = fold(model, x)
        assert notes[0].applied
        torch.testing.assert_close(after(x), before(x), rtol=1e-5, atol=2e-5)  # float32 rounding
