import pytest
import torch
from torch import nn

from quant.calibrate import CalibratedGraph, calibrate
from quant.encoding import (
    ActivationCodes,
    Encoding,
    WeightGuard,
    activation_spec,
    freeze,
    set_quantizing,
)
from quant.fake_quantize import FakeQuantState
from quant.graph import capture
from quant.graph.nodes import tensor_of
from quant.kernels import dequantize, quantize_codes
from quant.qparams import QParams
from quant.recipe import Recipe, parse
from quant.spec import QuantSpec
from quant.watch import watch

UNSIGNED, SIGNED, SYMMETRIC = (
    Encoding(ActivationCodes.UNSIGNED),
    Encoding(ActivationCodes.SIGNED),
    Encoding(ActivationCodes.SIGNED_SYMMETRIC),
)
RECIPE = parse(
    Recipe,
    {
        "name": "t",
        "specs": {
            "a8": {"bits": 8},
            "w8": {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"},
        },
        "roles": {
            "conv.input": "a8",
            "conv.weight": "w8",
            "conv.output": "a8",
            "linear.input": "a8",
            "linear.weight": "w8",
        },
    },
    "t",
)


class Model(nn.Module):
    """Convolutions (one depthwise) and a linear layer whose first weights are large side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.depthwise = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8)
        self.fc = nn.Linear(8, 6)
        with torch.no_grad():
            self.fc.weight[:3] = 1.0
            self.depthwise.weight[:] = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.conv(x).relu())
        return self.fc(x.mean((2, 3)).abs())


def images(count: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def calibrated() -> CalibratedGraph:
    torch.manual_seed(0)
    return calibrate(capture(Model().eval(), images(2)), RECIPE, lambda _: [images()])


def same(a: dict[str, QParams], b: dict[str, QParams]) -> bool:
    fields = ("qmin", "qmax", "axis", "scheme")
    return list(a) == list(b) and all(
        torch.equal(a[name].scale, b[name].scale)
        and torch.equal(a[name].zero_point, b[name].zero_point)
        and all(getattr(a[name], f) == getattr(b[name], f) for f in fields)
        for name in a
    )


def test_signed_codes_stand_for_the_same_values(calibrated):
    unsigned = freeze(calibrated, UNSIGNED)
    output = calibrated.graph(images())
    signed = freeze(calibrated, SIGNED)
    assert torch.equal(calibrated.graph(images()), output)
    for site in calibrated.activation_sites():
        u, s = unsigned[site.name], signed[site.name]
        assert (u.qmin, u.qmax, s.qmin, s.qmax) == (0, 255, -128, 127)
        x = torch.linspace(-3, 3, 4001) * float(u.scale) * 100
        codes = quantize_codes(x, u)
        assert torch.equal(codes - 128, quantize_codes(x, s))
        assert torch.equal(dequantize(codes, u), dequantize(quantize_codes(x, s), s))


def test_symmetric_codes_have_zero_at_zero_and_cover_the_range(calibrated):
    unsigned, symmetric = freeze(calibrated, UNSIGNED), freeze(calibrated, SYMMETRIC)
    for site in calibrated.activation_sites():
        low, high = site.quantizer.observer.range()
        q = symmetric[site.name]
        assert int(q.zero_point) == 0
        assert float(q.scale) * 127 == pytest.approx(max(-float(low), float(high)), rel=1e-6)
        assert not torch.equal(q.scale, unsigned[site.name].scale)
    for site in calibrated.weight_sites():
        assert torch.equal(unsigned[site.name].scale, symmetric[site.name].scale)


def test_seven_bits_use_half_the_codes(calibrated):
    full, seven = freeze(calibrated, UNSIGNED), freeze(calibrated, Encoding(guard=WeightGuard.SEVEN_BITS))
    for site in calibrated.weight_sites():
        assert (seven[site.name].qmin, seven[site.name].qmax) == (-63, 63)
        torch.testing.assert_close(seven[site.name].scale, full[site.name].scale * 127 / 63)
    for site in calibrated.activation_sites():
        assert torch.equal(seven[site.name].scale, full[site.name].scale)


def test_pairs_grow_only_the_rows_that_could_overflow(calibrated):
    full, pairs = freeze(calibrated, UNSIGNED), freeze(calibrated, Encoding(guard=WeightGuard.PAIRS))
    grown = pairs["fc.weight"].scale > full["fc.weight"].scale
    weight = tensor_of(calibrated.graph, "fc.weight")
    assert grown[:3].all()  # all ones, read from 0 to 255
    (site,) = (s for s in calibrated.sites if s.name == "fc.input")
    seen: list[torch.Tensor] = []
    set_quantizing(calibrated, None)
    watch(calibrated.graph, [site.node], images(), lambda _, value: seen.append(value))
    codes = quantize_codes(seen[0], pairs["fc.input"])  # [N, K]
    worst = {}
    for name, qparams in (("full", full["fc.weight"]), ("pairs", pairs["fc.weight"])):
        products = codes[:, None] * quantize_codes(weight, qparams)  # [N, O, K]
        worst[name] = int(products.unflatten(-1, (4, 2)).sum(-1).abs().max())
    assert worst["pairs"] <= 32767 < worst["full"]
    assert torch.equal(pairs["fc.weight"].scale[~grown], full["fc.weight"].scale[~grown])
    assert torch.equal(pairs["depthwise.weight"].scale, full["depthwise.weight"].scale)  # an exact kernel


def test_a_shared_weight_is_guarded_for_all_its_readers():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)
            nn.init.ones_(self.fc.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.fc(x.abs()).sigmoid())

    graph = capture(Shared().eval(), torch.randn(2, 8))
    result = calibrate(graph, RECIPE, lambda _: [torch.randn(16, 8)])
    full, pairs = freeze(result, UNSIGNED), freeze(result, Encoding(guard=WeightGuard.PAIRS))
    (name,) = (site.name for site in result.weight_sites())
    assert (pairs[name].scale > full[name].scale).all()


def test_dropped_roles_are_off_unless_another_role_needs_the_site(calibrated):
    frozen = freeze(calibrated, Encoding(dropped_roles=frozenset({"conv.output"})))
    assert "depthwise.output" not in frozen  # read by nothing else that is quantized
    assert "conv.output" in frozen  # it is the depthwise layer's input as well
    states = {site.name: site.quantizer.state for site in calibrated.sites}
    assert states["depthwise.output"] is FakeQuantState.OFF
    assert {state for name, state in states.items() if name in frozen} == {FakeQuantState.QUANTIZING}


@pytest.mark.parametrize(
    "first", [SYMMETRIC, Encoding(guard=WeightGuard.SEVEN_BITS), Encoding(half_scales=True)]
)
@pytest.mark.parametrize("second", [UNSIGNED, Encoding(guard=WeightGuard.PAIRS), SIGNED])
def test_freezing_again_is_as_freezing_fresh(calibrated, first, second):
    fresh = freeze(calibrated, second)
    expected = calibrated.graph(images())
    freeze(calibrated, first)
    assert same(freeze(calibrated, second), fresh)
    assert torch.equal(calibrated.graph(images()), expected)


def test_quantizing_is_switched_by_site(calibrated):
    x, truth = images(), calibrated.graph(images())
    frozen = freeze(calibrated, UNSIGNED)
    quantized = calibrated.graph(x)
    set_quantizing(calibrated, None)
    assert torch.equal(calibrated.graph(x), truth)
    set_quantizing(calibrated, {"fc.weight": frozen["fc.weight"]})
    assert not torch.equal(calibrated.graph(x), truth)
    assert not torch.equal(calibrated.graph(x), quantized)
    set_quantizing(calibrated, frozen)
    assert torch.equal(calibrated.graph(x), quantized)


def test_half_scales_are_exact_in_float16(calibrated):
    frozen = freeze(calibrated, Encoding(half_scales=True))
    for site in calibrated.sites:
        scale = frozen[site.name].scale
        assert torch.equal(scale.half().float(), scale)
        assert torch.equal(site.quantizer.qparams.scale, scale)


FP8 = {"scheme": "fp8_e4m3", "signed": True, "symmetric": True}


@pytest.mark.parametrize(
    ("weight", "activation"),
    [
        ({}, None),  # multiplied in float
        ({"granularity": "per_group", "group_size": 4}, {}),
        (FP8 | {"narrow": False}, FP8),
    ],
)
@pytest.mark.parametrize("guard", [WeightGuard.PAIRS, WeightGuard.SEVEN_BITS])
def test_weights_that_no_integer_kernel_multiplies_are_not_guarded(weight, activation, guard):
    specs = {"weight": QuantSpec.weight().model_dump() | weight, "input": activation or {}}
    roles = {"linear.weight": "weight"} | ({} if activation is None else {"linear.input": "input"})
    recipe = Recipe.model_validate({"name": "test", "specs": specs, "roles": roles})
    model = nn.Sequential(nn.Linear(8, 8))
    nn.init.ones_(model[0].weight)  # every pair overflows
    result = calibrate(capture(model.eval(), torch.randn(2, 8)), recipe, lambda _: [torch.rand(16, 8)])
    full, guarded = freeze(result, UNSIGNED), freeze(result, Encoding(guard=guard))
    assert same(full, guarded)
    assert [q.qmax for q in guarded.values()] == [q.qmax for q in full.values()]


def test_fp8_activations_have_one_form_for_all_targets():
    spec = QuantSpec.model_validate(FP8)
    assert all(activation_spec(spec, codes) == spec for codes in ActivationCodes)
