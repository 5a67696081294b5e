import pytest
import torch

from quant.errors import BadInput
from quant.graph.nodes import tensor_of
from quant.methods import make_method
from tests.quant.methods.small_vit import SmallVit, calibrated, images, quantized_sqnr, recipe, small_vit

NAME = "layer_norm_scale"
NORMS = ["block.norm1", "block.norm2", "norm"]


def norm_output(model: SmallVit) -> torch.Tensor:
    """What qkv reads on the calibration images, rows [n, C], float64."""
    with torch.no_grad():
        return model.block.norm1(images()).flatten(0, 1).double()


@pytest.mark.parametrize("layer_scale", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"zero_point": "zero"},
        {"zero_point": "keep", "statistic": "amax", "exponent": 0.5, "weight_exponent": "complement"},
        {"zero_point": "keep", "statistic": "mean_abs"},
    ],
    ids=["search", "zero", "smoothquant", "awq"],
)
def test_the_float_output_stays(options, layer_scale):
    model = small_vit(layer_scale=layer_scale)
    result = calibrated(model, recipe({"name": NAME} | options))
    assert [(n.layer, n.applied) for n in result.notes] == [(norm, True) for norm in NORMS]
    assert not torch.equal(tensor_of(result.graph, "block.qkv.weight"), model.block.qkv.weight)
    x = images(7, seed=3)
    # float32: sums of 24 products of size up to about 20, rounded in another order
    torch.testing.assert_close(result.graph(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("zero_point", ["integer", "zero"])
def test_exponent_one_on_the_range_is_repq(zero_point):
    model = small_vit()
    ours = {"name": NAME, "exponent": 1.0, "statistic": "range", "zero_point": zero_point}
    found = calibrated(model, recipe(ours)).graph
    repq = calibrated(model, recipe({"name": "layer_norm_linear", "zero_point": zero_point})).graph
    for name in ("block.norm1.weight", "block.norm1.bias", "block.qkv.weight", "block.qkv.bias"):
        # the two find the same integers and sum in another order
        torch.testing.assert_close(tensor_of(found, name), tensor_of(repq, name), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "formula"),
    [
        (
            {"statistic": "amax", "exponent": 0.5, "weight_exponent": "complement"},
            lambda x, w: x.abs().amax(0) ** 0.5 / w.abs().amax(0) ** 0.5,
        ),
        ({"statistic": "mean_abs", "exponent": 0.4}, lambda x, _: x.abs().mean(0) ** 0.4),
        ({"statistic": "amax", "exponent": 0.0}, lambda x, _: torch.ones(x.shape[1]).double()),
    ],
    ids=["smoothquant", "awq", "nothing"],
)
def test_the_factor_is_the_formula(options, formula):
    model = small_vit()
    result = calibrated(model, recipe({"name": NAME, "zero_point": "keep"} | options))
    weight = model.block.qkv.weight.detach().double()
    scale = formula(norm_output(model), weight)
    found = tensor_of(result.graph, "block.qkv.weight").double()
    # float32 statistics and one rounding
    torch.testing.assert_close(found, weight * (scale / scale.mean()), rtol=1e-5, atol=1e-7)
    gamma = tensor_of(result.graph, "block.norm1.weight").double()
    torch.testing.assert_close(
        gamma, model.block.norm1.weight.detach().double() / (scale / scale.mean()), rtol=1e-5, atol=1e-7
    )


def rounded(x: torch.Tensor, bits: int, symmetric: bool) -> torch.Tensor:
    """Min-max quantization written out: affine per tensor, or symmetric per row."""
    if symmetric:
        scale = x.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
        return (x / scale).round() * scale
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (high - low) / (2**bits - 1)
    zero = (-low / scale).round()
    return ((x / scale).round() + zero).clamp(0, 2**bits - 1).sub(zero) * scale


@pytest.mark.parametrize(("weight_bits", "input_bits"), [(8, 4), (3, 8)])
def test_the_search_takes_the_exponent_of_least_output_error(weight_bits, input_bits):
    model = small_vit()
    formats = {"weight": {"bits": weight_bits}, "activation": {"bits": input_bits}}
    chosen = recipe({"name": NAME, "zero_point": "keep", "statistic": "amax", "steps": 4}, **formats)
    result = calibrated(model, chosen)
    x, weight = norm_output(model), model.block.qkv.weight.detach().double()
    errors = {}
    for a in (0.0, 0.25, 0.5, 0.75, 1.0):
        scale = x.abs().amax(0) ** a
        scale = scale / scale.mean()
        output = rounded(x / scale, input_bits, False) @ rounded(weight * scale, weight_bits, True).T
        wanted = x @ weight.T
        power = wanted.square().mean(1, keepdim=True)
        errors[a] = float(((output - wanted).square() * (power.median() / power).clamp(max=1)).mean())
    exponent, share = result.knowledge.findings[f"{NAME}/block.norm1/exponent"].tolist()
    assert errors[exponent] <= 1.01 * min(errors.values())  # float32 may round a code otherwise
    assert share == pytest.approx(errors[exponent] / errors[0.0], rel=0.02)


def test_few_weight_bits_want_less_migration_than_few_input_bits():
    found = {}
    for bits in ((3, 8), (8, 3)):
        formats = {"weight": {"bits": bits[0]}, "activation": {"bits": bits[1]}}
        result = calibrated(small_vit(), recipe({"name": NAME}, **formats))
        found[bits] = float(result.knowledge.findings[f"{NAME}/block.norm1/exponent"][0])
    assert found[3, 8] < found[8, 3]


def test_four_bit_inputs_come_closer_to_float():
    model = small_vit()
    formats = {"activation": {"bits": 4}}
    plain = quantized_sqnr(model, recipe(**formats))
    assert quantized_sqnr(model, recipe({"name": NAME}, **formats)) > plain + 2.0  # dB


class Shared(SmallVit):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.block.qkv(x).mean((1, 2))[:, None]


def test_it_says_why_it_declines():
    result = calibrated(Shared(), recipe({"name": NAME}))
    assert (result.notes[0].applied, result.notes[0].text) == (
        False,
        "'block.qkv.weight' is shared with another layer",
    )
    chosen = recipe({"name": NAME}).model_copy(update={"exclude": ("head",)})
    assert calibrated(small_vit(), chosen).notes[-1].text == "the linear layers behind it are not quantized"


@pytest.mark.parametrize("options", [{"exponent": 1.5}, {"exponent": "best"}, {"steps": 0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(BadInput, match=next(iter(options))):
        make_method(NAME, options)
