import itertools
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from quant.calibrate import calibrate
from quant.calibrated import CalibratedGraph
from quant.encoding import Encoding, freeze
from quant.errors import BadInput
from quant.graph import capture
from quant.placement import Site
from quant.recipe import Recipe

WEIGHT = {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"}
EVERYTHING = {"rows": 10**6, "images": 10**6}  # no sampling, so that trials can be repeated here


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(model: nn.Module) -> nn.Module:
    """Weights with heavy tails, for which min-max is a bad choice."""
    for index, parameter in enumerate(model.parameters()):
        parameter.data.copy_(0.2 * normal(*parameter.shape, seed=index) ** 3)
    return model.eval()


def recipe(*methods: dict[str, Any], bits: int = 4, weight: dict[str, Any] | None = None) -> Recipe:
    roles = {f"{kind}.{end}": end for kind in ("linear", "conv", "patch_conv") for end in ("input", "weight")}
    specs = {"input": {"bits": bits}, "weight": WEIGHT | {"bits": bits} | (weight or {})}
    return Recipe.model_validate({"name": "t", "specs": specs, "roles": roles, "methods": list(methods)})


def run(model: nn.Module | fx.GraphModule, images: Tensor, chosen: Recipe) -> CalibratedGraph:
    graph = model if isinstance(model, fx.GraphModule) else capture(model, images[:2])
    found = calibrate(graph, chosen, lambda n: images[:n].split(8))
    freeze(found, Encoding())
    return found


def site(found: CalibratedGraph, name: str) -> Site:
    return next(s for s in found.sites if s.name == name)


def rounded(x: Tensor, scale: Tensor, zero_point: float, low: int, high: int) -> Tensor:
    """Fake quantization in float64."""
    x, scale = x.double(), scale.double()
    return (torch.clamp(torch.round(x / scale) + zero_point, low, high) - zero_point) * scale


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 20), nn.Linear(20, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 5), nn.Linear(12, 7)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.first(x), self.second(x)], dim=-1)


@cache
def linear() -> tuple[nn.Module, fx.GraphModule]:
    model = filled(nn.Sequential(nn.Linear(12, 8)))
    return model, capture(model, normal(2, 5, 12))


@cache
def two() -> fx.GraphModule:
    return capture(filled(Two()), normal(2, 7, 12))


def test_each_channel_gets_the_scale_that_brute_force_finds() -> None:
    (model, graph), images = linear(), normal(40, 5, 12)
    options = {"name": "scale_search", "candidates": 8, "rounds": 1} | EVERYTHING
    found = run(graph, images, recipe(options))
    weight, bias = model[0].weight.detach().double(), model[0].bias.detach().double()

    # the weight is searched first, on inputs in their min-max range
    low, high = images.min().double(), images.max().double()
    scale = (high - low) / 15
    inputs = rounded(images, scale, float(torch.round(-low / scale)), 0, 15)
    wanted = functional.linear(images.double(), weight, bias)
    factors = [1.0, *torch.linspace(0.5, 1.2, 8, dtype=torch.float64).tolist()]
    minmax = weight.abs().amax(dim=1) / 7
    errors = []
    for factor in factors:
        trial = rounded(weight, (minmax * factor)[:, None], 0, -7, 7)
        errors.append((wanted - functional.linear(inputs, trial, bias)).square().mean(dim=(0, 1)))
    best = torch.tensor(factors, dtype=torch.float64)[torch.stack(errors).argmin(dim=0)]
    # the scale is stored as float32
    torch.testing.assert_close(
        site(found, "0.weight").quantizer.qparams.scale.double(), minmax * best, rtol=1e-6, atol=0
    )

    # then the input, with the weight found
    trial = rounded(weight, (minmax * best)[:, None], 0, -7, 7)
    errors = []
    for factor in factors:
        bounds = low * factor, high * factor
        scale = (bounds[1] - bounds[0]) / 15
        x = rounded(images, scale, float(torch.round(-bounds[0] / scale)), 0, 15)
        errors.append((wanted - functional.linear(x, trial, bias)).square().mean())
    factor = factors[int(torch.stack(errors).argmin())]
    ends = site(found, "0.input").quantizer.range
    assert [float(e) for e in ends] == pytest.approx([float(low) * factor, float(high) * factor], rel=1e-6)
    assert len(set(best.tolist())) > 1  # the channels differ
    assert factor < 1.0


@pytest.mark.parametrize("objective", ["mse", "pearson"])
def test_a_single_weight_scale_is_the_one_that_brute_force_finds(objective: str) -> None:
    (model, graph), images = linear(), normal(16, 5, 12)
    options = {"name": "scale_search", "objective": objective, "candidates": 5, "rounds": 20} | EVERYTHING
    found = run(graph, images, recipe(options, weight={"granularity": "per_tensor"}))
    weight, bias = model[0].weight.detach().double(), model[0].bias.detach().double()
    wanted = functional.linear(images.double(), weight, bias)
    low, high = images.min().double(), images.max().double()
    factors = [1.0, *torch.linspace(0.5, 1.2, 5, dtype=torch.float64).tolist()]

    def score(weight_factor: float, input_factor: float) -> float:
        scale = (high - low) * input_factor / 15
        x = rounded(images, scale, float(torch.round(-low * input_factor / scale)), 0, 15)
        trial = rounded(weight, weight.abs().max() * weight_factor / 7, 0, -7, 7)
        y = functional.linear(x, trial, bias)
        if objective == "mse":
            return -float((y - wanted).square().mean())
        rows = zip(y.flatten(1), wanted.flatten(1), strict=True)
        return float(torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in rows]).mean())

    weight_factor = float(site(found, "0.weight").quantizer.qparams.scale * 7 / weight.abs().max())
    input_factor = float(site(found, "0.input").quantizer.range[1] / high)
    reached = score(weight_factor, input_factor)
    # where neither scale can be bettered alone, which is where the alternation ends; float32 sums
    assert reached >= max(score(weight_factor, f) for f in factors) - 1e-6
    assert reached >= max(score(f, input_factor) for f in factors) - 1e-6
    assert reached > score(1.0, 1.0)


@pytest.mark.parametrize("objective", ["mse", "pearson"])
@pytest.mark.parametrize(
    "weight", [{}, {"granularity": "per_tensor"}, {"group_size": 4, "granularity": "per_group"}]
)
@pytest.mark.parametrize("factors", [(0.5, 1.2), (0.01, 0.02)])
def test_it_is_never_worse_than_min_max(
    objective: str, weight: dict[str, Any], factors: tuple[float, float]
) -> None:
    """Also where all factors are useless: min-max is among the candidates."""
    low, high = factors
    (_, graph), images = linear(), normal(16, 5, 12)
    options = {"name": "scale_search", "objective": objective, "low": low, "high": high, "candidates": 6}
    errors = {}
    for name, methods in (("min-max", []), ("searched", [options | EVERYTHING])):
        found = run(graph, images, recipe(*methods, weight=weight))
        wanted, y = found.reference(images), found.graph(images)
        if objective == "mse":
            errors[name] = float((y - wanted).square().mean())
        else:
            dims = (0, 1) if weight.get("granularity") != "per_tensor" else (1, 2)
            y, wanted = (t.double() - t.double().mean(dim=dims, keepdim=True) for t in (y, wanted))
            norms = (y.square().sum(dims) * wanted.square().sum(dims)).sqrt()
            errors[name] = 1.0 - float(((y * wanted).sum(dims) / norms).mean())
    if low == 0.5:
        assert errors["searched"] < errors["min-max"]
    else:
        assert errors["searched"] == errors["min-max"]


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_convolutions_come_closer_to_float(groups: int) -> None:
    model = filled(nn.Sequential(nn.Conv2d(6, 12, 3, padding=1, stride=2, groups=groups)))
    images = normal(16, 6, 9, 9)
    graph = capture(model, images[:2])
    plain = run(graph, images, recipe())
    searched = run(graph, images, recipe({"name": "scale_search"} | EVERYTHING))
    wanted = plain.reference(images)
    before, after = ((found.graph(images) - wanted).square().mean() for found in (plain, searched))
    (note,) = searched.notes
    # the trials on unfolded patches are the convolution: the error noted is the error found
    shown = [float(part) for part in note.text.removeprefix("mse ").split(" → ")]
    assert shown == pytest.approx([float(before), float(after)], rel=1e-3)  # four digits are shown
    assert after < 0.9 * before


def test_later_layers_are_searched_on_what_the_earlier_ones_return_now() -> None:
    images = normal(64, 7, 12)
    searched = run(two(), images, recipe({"name": "scale_search"} | EVERYTHING))
    wanted = searched.reference(images)
    last = searched.notes[-1]
    assert last.layer == "fc2"
    after = float((searched.graph(images) - wanted).square().mean())
    assert float(last.text.partition(" → ")[2]) == pytest.approx(after, rel=1e-3)


def test_only_the_first_layer_moves_an_input_scale_that_two_share() -> None:
    model, images = filled(Shared()), normal(64, 12)
    searched = run(model, images, recipe({"name": "scale_search"} | EVERYTHING))
    alone = nn.Sequential(model.first).eval()
    expected = run(alone, images, recipe({"name": "scale_search"} | EVERYTHING))
    moved, wanted = site(searched, "first.input").quantizer.range, site(expected, "0.input").quantizer.range
    assert [float(e) for e in moved] == [float(e) for e in wanted]
    first, second = (note.text for note in searched.notes)
    assert "chosen here for all" in first
    assert "left as the first of them chose it" in second


def test_sampling_is_repeatable_and_follows_the_seed() -> None:
    images = normal(64, 7, 12)

    def scales(seed: int) -> list[Tensor]:
        found = run(two(), images, recipe({"name": "scale_search", "rows": 64, "seed": seed}))
        return [s.quantizer.qparams.scale for s in found.sites]

    once, again, other = scales(0), scales(0), scales(1)
    assert all(itertools.starmap(torch.equal, zip(once, again, strict=True)))
    assert not all(itertools.starmap(torch.equal, zip(once, other, strict=True)))


def test_factors_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(BadInput, match=r"high 0\.4 is below low 0\.5"):
        run(two(), normal(8, 7, 12), recipe({"name": "scale_search", "high": 0.4}))
