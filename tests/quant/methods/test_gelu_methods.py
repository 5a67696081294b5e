import pytest
import torch
from torch import nn

from quant.calibrate import calibrate
from quant.encoding import Encoding, freeze
from quant.errors import BadInput
from quant.graph import capture
from quant.graph.nodes import tensor_of
from quant.recipe import Recipe, parse

OUTLIERS = [5, 40]


class Mlp(nn.Module):
    """fc1, GELU, fc2 as in a transformer block; the units ``OUTLIERS`` reach 40 times as far as others."""

    def __init__(self, outliers: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.fc1, self.act, self.fc2 = nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 8)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.25)
            if outliers:
                self.fc1.weight[OUTLIERS] *= 40.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., :8] + self.fc2(self.act(self.fc1(x)))


def recipe(*methods: dict, **changes) -> Recipe:
    settings = {
        "name": "t",
        "specs": {
            "a8": {"bits": 8},
            "w8": {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"},
        },
        "roles": {"linear.input": "a8", "linear.weight": "w8"},
        "methods": list(methods),
    }
    return parse(Recipe, settings | changes, "t")


SIDE_PATH = {"name": "outlier_side_path", "threshold": 4}
SCALE = {"name": "gelu_scale"}
CENTRED = ({"name": "centred_gelu"}, {"name": "bias_correction"})


def images(count: int = 64) -> torch.Tensor:
    return torch.randn(count, 9, 16, generator=torch.Generator().manual_seed(1))


def calibrated(model: nn.Module, chosen: Recipe):
    return calibrate(capture(model.eval(), images(2)), chosen, lambda _: [images()])


def sqnr(result: torch.Tensor, truth: torch.Tensor) -> float:
    result, truth = result.detach(), truth.detach()
    return float(10 * torch.log10(truth.square().sum() / (result - truth).square().sum()))


@pytest.mark.parametrize("method", [SIDE_PATH, SCALE, {"name": "gelu_scale", "exponent": 0.5}])
def test_the_float_output_stays(method):
    model = Mlp().eval()
    result = calibrated(model, recipe(method))
    assert [(n.layer, n.applied) for n in result.notes] == [("fc2", True)]
    x = images(7)
    # float32 sums of 64 products of size up to about 40, in another order
    torch.testing.assert_close(result.graph(x), model(x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("method", [SIDE_PATH, SCALE])
def test_int8_comes_closer_to_float_than_without_the_method(method):
    model, x = Mlp().eval(), images()
    found = {}
    for name, methods in (("plain", ()), ("with", (method,))):
        result = calibrated(model, recipe(*methods))
        freeze(result, Encoding())
        found[name] = sqnr(result.graph(x), model(x))
    assert found["with"] > found["plain"] + 3.0  # dB; half the noise power


def test_the_side_path_takes_the_outliers_out_of_weight_and_range():
    model = Mlp().eval()
    plain, result = calibrated(model, recipe()), calibrated(model, recipe(SIDE_PATH))
    assert not tensor_of(result.graph, "fc2.weight")[:, OUTLIERS].any()
    assert torch.equal(tensor_of(result.graph, "fc2.side_units"), torch.tensor(OUTLIERS))
    assert torch.equal(tensor_of(result.graph, "fc2.side_weight"), model.fc2.weight[:, OUTLIERS].T)
    assert "units 5, 40" in result.notes[0].text

    hidden = model.act(model.fc1(images())).detach().flatten(0, 1)
    others = [c for c in range(64) if c not in OUTLIERS]
    (site,) = (s for s in result.sites if s.name == "fc2.input")
    low, high = site.quantizer.observer.range()
    assert (float(low), float(high)) == (float(hidden[:, others].min()), float(hidden[:, others].max()))
    _, plain_high = next(s for s in plain.sites if s.name == "fc2.input").quantizer.observer.range()
    assert float(plain_high) > 5 * float(high)


def test_no_recipe_addresses_the_side_path_itself():
    everything = {"linear.input": "a8", "linear.weight": "w8"}
    everything |= {"residual_add.input": "a8", "attention_qk.input": "a8"}
    with_path = calibrated(Mlp(), recipe(SIDE_PATH, roles=everything))
    without = calibrated(Mlp(), recipe(roles=everything))
    assert sorted(s.name for s in with_path.sites) == sorted(s.name for s in without.sites)


@pytest.mark.parametrize(
    ("model", "method", "reason"),
    [
        (Mlp(outliers=False), SIDE_PATH, "no unit beyond 4 times the median"),
        (Mlp(), SIDE_PATH | {"most": 0.01}, "2 units stand out, too many for a side path"),
    ],
)
def test_the_side_path_says_why_it_does_nothing(model, method, reason):
    result = calibrated(model, recipe(method))
    assert [(n.layer, n.applied, n.text) for n in result.notes] == [("fc2", False, reason)]
    assert torch.equal(tensor_of(result.graph, "fc2.weight"), model.fc2.weight)


class Tapped(Mlp):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.fc1(x))
        return self.fc2(y) + y.mean(-1, keepdim=True)


@pytest.mark.parametrize("method", [SIDE_PATH, SCALE])
def test_a_gelu_with_other_readers_is_left_alone(method):
    result = calibrated(Tapped(), recipe(method))
    assert [n.text for n in result.notes] == ["something else also reads the GELU in front of it"]


@pytest.mark.parametrize("method", [SIDE_PATH, SCALE])
def test_float_layers_are_left_alone(method):
    result = calibrated(Mlp(), recipe(method, exclude=["fc2"]))
    assert result.notes == []


def test_the_scale_is_the_formula():
    model = Mlp().eval()
    result = calibrated(model, recipe({"name": "gelu_scale", "exponent": 0.75}))
    hidden = model.act(model.fc1(images())).flatten(0, 1).abs().amax(0).double()
    column = model.fc2.weight.abs().amax(0).double()
    scale = hidden**0.75 / column**0.25
    torch.testing.assert_close(
        tensor_of(result.graph, "fc2.input_scale").double(), 1 / scale, rtol=1e-6, atol=0
    )


def written_out(x: torch.Tensor, low: torch.Tensor, scale: torch.Tensor, levels: int) -> torch.Tensor:
    """Affine quantization from ``low``, float64."""
    zero = (-low / scale).round()
    return ((x / scale).round() + zero).clamp(0, levels).sub(zero) * scale


def test_the_search_takes_the_exponent_of_least_output_error():
    model = Mlp().eval()
    result = calibrated(model, recipe({"name": "gelu_scale", "exponent": "search", "steps": 4}))
    with torch.no_grad():
        g = model.act(model.fc1(images())).flatten(0, 1).double()
    weight = model.fc2.weight.detach().double()

    def error(scale: torch.Tensor) -> float:
        rows, columns = g / scale, weight * scale
        step = (rows.max() - rows.min().clamp(max=0)) / 255
        wide = columns.abs().amax(1, keepdim=True) / 127
        rounded = written_out(rows, rows.min().clamp(max=0), step, 255) @ ((columns / wide).round() * wide).T
        outputs = g @ weight.T
        power = outputs.square().mean(1, keepdim=True)
        return float(((rounded - outputs).square() * (power.median() / power).clamp(max=1)).mean())

    amax, column = g.abs().amax(0), weight.abs().amax(0)
    errors = {a: error(amax**a / column ** (1 - a)) for a in (0.0, 0.25, 0.5, 0.75, 1.0)}
    exponent, share = result.knowledge.findings["gelu_scale/fc2/exponent"].tolist()
    assert errors[exponent] <= 1.01 * min(errors.values())  # float32 may round a code otherwise
    assert share == pytest.approx(errors[exponent] / error(torch.ones(64).double()), rel=0.02)
    assert f"exponent {exponent:g}" in result.notes[0].text


def test_the_search_spends_no_multiplication_where_nothing_is_gained():
    model = Mlp(outliers=False).eval()
    with torch.no_grad():  # all units alike
        model.fc1.weight.copy_(model.fc1.weight[:1].expand(64, -1))
        model.fc1.bias.fill_(0.1)
        model.fc2.weight.copy_(model.fc2.weight[:, :1].expand(-1, 64))
    result = calibrated(model, recipe({"name": "gelu_scale", "exponent": "search"}))
    assert not result.notes[0].applied
    assert result.notes[0].text.endswith("not worth a multiplication")
    assert torch.equal(tensor_of(result.graph, "fc2.weight"), model.fc2.weight)


def test_methods_behind_a_gelu_compose():
    model, x = Mlp().eval(), images(7)
    for methods in ((SCALE, SIDE_PATH), (SIDE_PATH, SCALE)):
        result = calibrated(model, recipe(*methods, *CENTRED))
        # float32 sums of 64 products of size up to about 40, in another order
        torch.testing.assert_close(result.reference(x), model(x), rtol=1e-5, atol=1e-4)
        assert "centred_gelu" in [n.method for n in result.notes if n.applied]
    assert all(n.applied for n in result.notes)
    again = calibrated(model, recipe(SIDE_PATH, SIDE_PATH))
    assert [n.text for n in again.notes if not n.applied] == ["it has a side path already"]


CENTRE = {"name": "gelu_scale", "exponent": "search", "centre": True}


def always_on() -> Mlp:
    """Half of the hidden units never go near zero."""
    model = Mlp(outliers=False).eval()
    with torch.no_grad():
        model.fc1.bias[:32] += 20.0
    return model


def test_a_centred_scale_leaves_the_float_output_as_it_is():
    model, x = always_on(), images(7)
    result = calibrated(model, recipe(CENTRE, {"name": "bias_correction"}))
    (note,) = (n for n in result.notes if n.method == "gelu_scale")
    assert note.applied
    assert "centred" in note.text
    # The reference is the rewritten graph in float; sums of 64 products of size up to 25, reordered.
    torch.testing.assert_close(result.reference(x), model(x), rtol=1e-5, atol=1e-4)
    mean = model.act(model.fc1(images())).mean((0, 1)).detach()
    inverse = tensor_of(result.graph, "fc2.input_scale")
    torch.testing.assert_close(
        tensor_of(result.graph, "fc2.input_mean"), mean * inverse, rtol=1e-4, atol=1e-5
    )


def test_units_that_are_always_on_are_worth_centring():
    model, x = always_on(), images()
    found = {}
    for centre in (False, True):
        result = calibrated(model, recipe(CENTRE | {"centre": centre}, {"name": "bias_correction"}))
        freeze(result, Encoding())
        found[centre] = sqnr(result.graph(x), model(x))
    assert found[True] > found[False] + 3.0  # dB; half the noise power


@pytest.mark.parametrize(
    ("methods", "centred"), [((CENTRE, {"name": "bias_correction"}), True), ((CENTRE,), False)]
)
def test_only_a_recipe_that_corrects_biases_centres(methods, centred):
    result = calibrated(always_on(), recipe(*methods))
    assert ("fc2.input_mean" in dict(result.graph.named_buffers())) == centred


def test_centring_needs_a_search():
    with pytest.raises(BadInput, match="centre needs exponent: search"):
        calibrated(Mlp(), recipe({"name": "gelu_scale", "exponent": 0.5, "centre": True}))
