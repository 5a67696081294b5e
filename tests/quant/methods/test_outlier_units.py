import math

import pytest
import torch
from torch import nn

from quant.encoding import Encoding, freeze
from quant.graph.nodes import tensor_of
from quant.methods import ChannelRange
from quant.methods.unit_split import plan_split
from tests.quant.methods.small_vit import SmallVit, calibrated, captured, images, recipe, small_vit, sqnr

NAME = "outlier_units"
UNITS = [5, 40]


class Outliers(SmallVit):
    """Hidden units that reach 20 times as far as others, on the tokens where they fire."""

    def __init__(self, layer_scale: bool = False) -> None:
        super().__init__(layer_scale=layer_scale)
        with torch.no_grad():
            self.block.fc1.weight[UNITS] *= 20.0
            self.block.fc2.weight[:, UNITS] *= 0.2


MODEL = Outliers().eval()


def found(method: dict, **formats: dict) -> tuple[list, float, list[str]]:
    """Notes, SQNR in dB on new images, and the names of the sites."""
    result = calibrated(MODEL, recipe(method, **formats) if method else recipe(**formats))
    freeze(result, Encoding())
    x = images(32, seed=2)
    return result.notes, sqnr(result.graph(x), MODEL(x)), [site.name for site in result.sites]


@pytest.mark.parametrize("layer_scale", [False, True])
@pytest.mark.parametrize("cure", ["side_path", "split", "float", "auto"])
def test_the_float_output_stays_beyond_the_calibrated_range_too(cure, layer_scale):
    model = Outliers(layer_scale=True).eval() if layer_scale else MODEL
    result = calibrated(model, recipe({"name": NAME, "cure": cure}))
    assert [(n.layer, n.applied) for n in result.notes] == [("block.fc2", True)]
    assert "units 5, 40" in result.notes[0].text
    x = torch.cat([images(7, seed=3), 3 * images(7, seed=4)])
    # float32: sums of 64 products of size up to about 100, rounded in another order
    torch.testing.assert_close(result.graph(x), model(x), rtol=1e-4, atol=5e-4)


def test_every_cure_comes_closer_to_float():
    x, quality = images(32, seed=2), {}
    for cure in ("none", "side_path", "split"):
        methods = [] if cure == "none" else [{"name": NAME, "cure": cure}]
        result = calibrated(MODEL, recipe(*methods).model_copy(update={"include": ("block.fc2",)}))
        freeze(result, Encoding())
        quality[cure] = sqnr(result.graph(x), MODEL(x))
    assert min(quality["side_path"], quality["split"]) > quality["none"] + 3.0  # dB


def test_parts_are_bounded_and_sum_to_the_unit():
    g = torch.nn.functional.gelu(torch.linspace(-4, 45, 2001))[:, None] * torch.tensor([0.1, 1.0, 0.05])
    plan = plan_split(ChannelRange(g.amin(0), g.amax(0)), [1])
    reach = float(g[:, [0, 2]].abs().max())
    parts = plan.parts(g)
    assert parts.shape[1] == 2 + math.ceil(45.0 / reach) == 12
    assert float(parts.max()) <= reach * (1 + 1e-6)
    total = torch.zeros_like(g).index_add(1, plan.index, parts)
    torch.testing.assert_close(total, g, rtol=0, atol=1e-5)  # float32 sums of ten parts


def test_split_units_are_copies_and_no_site_is_added():
    plain, result = calibrated(MODEL, recipe()), calibrated(MODEL, recipe({"name": NAME, "cure": "split"}))
    assert [s.name for s in plain.sites] == [s.name for s in result.sites]
    first, second = (tensor_of(result.graph, f"block.fc{i}.weight") for i in (1, 2))
    assert len(first) == second.shape[1] > 70
    for row, column in zip(first[64:], second.T[64:], strict=True):
        assert any(torch.equal(row, MODEL.block.fc1.weight[u]) for u in UNITS)
        assert any(torch.equal(column, MODEL.block.fc2.weight[:, u]) for u in UNITS)
    ranges = {s.name: s.quantizer.observer.range() for s in (*plain.sites, *result.sites)}
    hidden = next(s for s in plain.sites if s.name == "block.fc2.input").quantizer.channels.range()[1]
    others = max(float(h) for c, h in enumerate(hidden) if c not in UNITS)
    assert float(ranges["block.fc2.input"][1]) == pytest.approx(others, rel=1e-5)


def test_a_layer_kept_in_float_has_no_site():
    names = found({"name": NAME, "cure": "float"})[2]
    assert not [name for name in names if name.startswith("block.fc2")]
    assert "block.fc1.weight" in names


def test_auto_measures_each_cure_and_takes_the_cheapest_of_equals():
    method = {"name": NAME, "margin": 0.0, "least_sqnr": -100}
    losses = calibrated(MODEL, recipe(method)).knowledge.findings[f"{NAME}/block.fc2/losses"]
    none, side_path, split, float_loss = losses.tolist()
    assert (float_loss, none > side_path, none > split) == (0.0, True, True)
    least = "side_path" if side_path <= split else "split"
    chosen = {
        least: method,
        "none": method | {"margin": 1e9},  # everything counts as equal
        "float": method | {"least_sqnr": 200.0},
    }
    for cure, options in chosen.items():
        (note,), *_ = found(options)
        assert note.text.startswith(f"units 5, 40 (up to {hidden_peak():.1f}): {cure} (loss none ")
        assert note.applied == (cure != "none")


def hidden_peak() -> float:
    block = MODEL.block
    with torch.no_grad():
        x = images()
        x = x + block.attention(block.norm1(x))
        return float(block.act(block.fc1(block.norm2(x))).max())


def test_the_loss_without_a_cure_is_the_layers_own():
    """Against min-max quantization written out, on the rows of all calibration images."""
    result = calibrated(MODEL, recipe({"name": NAME}))
    block = MODEL.block
    with torch.no_grad():
        x = images() + block.attention(block.norm1(images()))
        rows = block.act(block.fc1(block.norm2(x))).flatten(0, 1).double()
    weight = block.fc2.weight.detach().double()
    step = (rows.max() - rows.min()) / 255
    zero = (-rows.min() / step).round()
    q_rows = (((rows / step).round() + zero).clamp(0, 255) - zero) * step
    scale = weight.abs().amax(1, keepdim=True) / 127
    output = rows @ weight.T
    power = output.square().mean(1, keepdim=True)
    counts = (power.median() / power).clamp(max=1)  # of every row
    error = q_rows @ ((weight / scale).round() * scale).T - output
    loss = (error.square() * counts).mean() / (output.square() * counts).mean()
    found_loss = result.knowledge.findings[f"{NAME}/block.fc2/losses"][0]
    torch.testing.assert_close(found_loss, loss, rtol=0.01, atol=0)  # float32 may round a code otherwise


class Tapped(Outliers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.block.act(self.block.fc1(x))
        result: torch.Tensor = self.block.fc2(y) + y.mean(-1, keepdim=True)
        return result


class Direct(nn.Module):
    """Uneven inputs of a linear layer, and no GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(24, 4)
        self.gain = nn.Parameter(torch.ones(24).index_fill(0, torch.tensor([3]), 30.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc(x * self.gain)
        return result


def test_other_inputs_are_looked_at_on_request():
    model = Direct().eval()
    assert calibrated(model, recipe({"name": NAME, "cure": "side_path"})).notes == []
    result = calibrated(model, recipe({"name": NAME, "cure": "side_path", "where": "all"}))
    assert [(n.layer, n.applied) for n in result.notes] == [("fc", True)]
    assert tensor_of(result.graph, "fc.side_units").tolist() == [3]
    split = calibrated(model, recipe({"name": NAME, "cure": "split", "where": "all"})).notes[0].text
    assert split.endswith("no split: no linear layer stands right in front of the GELU")


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (small_vit(), {}, "no unit beyond 4 times the median"),
        (Tapped(), {"cure": "side_path"}, "no side_path: something else also reads the GELU in front of it"),
        (MODEL, {"cure": "split", "most": 0.01}, "no split: 2 units stand out, too many"),
    ],
    ids=["none", "tapped", "many"],
)
def test_it_says_why_it_declines(model, options, reason):
    result = calibrated(model, recipe({"name": NAME} | options))
    assert not result.notes[0].applied
    assert result.notes[0].text.endswith(reason)
    weight = tensor_of(result.graph, "block.fc2.weight")
    assert torch.equal(weight, tensor_of(captured(model), "block.fc2.weight"))
