import gc

import pytest
import torch
from torch import nn

from quant.calibrate import CalibratedGraph, calibrate, prepare
from quant.encoding import Encoding, freeze
from quant.errors import BadInput
from quant.fake_quantize import FakeQuantState
from quant.graph import capture
from quant.recipe import Recipe, load_recipe, parse


class Model(nn.Module):
    """A patch convolution, a transformer's MLP block and a head on [B, 3, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 4, stride=4), nn.LayerNorm(16)
        self.fc1, self.act, self.fc2, self.head = (
            nn.Linear(16, 32),
            nn.GELU(),
            nn.Linear(32, 16),
            nn.Linear(16, 5),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.fc2(self.act(self.fc1(self.norm(x))))
        return self.head(x.mean(1))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Model().eval()


@pytest.fixture
def graph(model):
    return capture(model, images(2))


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def batches(size: int, count: int = 24):
    """The first images of the same 24 in batches of ``size``."""
    return lambda limit: images(24)[: min(count, limit or count)].split(size)


def recipe(observer: str = "minmax", **changes) -> Recipe:
    settings = {
        "name": "t",
        "specs": {
            "a8": {"bits": 8, "observer": observer},
            "w8": {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"},
        },
        "roles": {
            "linear.input": "a8",
            "linear.weight": "w8",
            "patch_conv.input": "a8",
            "patch_conv.weight": "w8",
        },
    }
    return parse(Recipe, settings | changes, "t")


def scales(calibrated: CalibratedGraph) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return {name: (q.scale, q.zero_point) for name, q in freeze(calibrated, Encoding()).items()}


def test_the_input_graph_is_not_changed(graph):
    before, x = graph.code, images(4)
    state = {name: value.clone() for name, value in graph.state_dict().items()}
    expected = graph(x)
    calibrate(graph, load_recipe("int8"), batches(8))
    assert graph.code == before
    assert all(torch.equal(value, graph.state_dict()[name]) for name, value in state.items())
    assert torch.equal(graph(x), expected)


def test_layers_are_off_and_have_seen_the_images(graph, model):
    result = calibrate(graph, recipe(), batches(8))
    assert result.images == 24
    assert {site.quantizer.state for site in result.sites} == {FakeQuantState.OFF}
    torch.testing.assert_close(result.graph(images(4)), model(images(4)), rtol=1e-5, atol=1e-5)  # no method
    ranges = {site.name: site.quantizer.observer.range() for site in result.sites}
    assert [float(v) for v in ranges["stem.input"]] == [float(images(24).min()), float(images(24).max())]
    low, high = ranges["fc1.weight"]
    assert torch.equal(low.float(), model.fc1.weight.amin(1))
    assert torch.equal(high.float(), model.fc1.weight.amax(1))


def test_twice_the_same_is_bit_equal(graph):
    first, second = (scales(calibrate(graph, load_recipe("int8"), batches(8))) for _ in range(2))
    assert list(first) == list(second)
    for name, values in first.items():
        assert all(torch.equal(a, b) for a, b in zip(values, second[name], strict=True))


@pytest.mark.parametrize("observer", ["minmax", "percentile", "kl"])
def test_the_batch_size_does_not_matter(graph, observer):
    found = [scales(calibrate(graph, recipe(observer), batches(size))) for size in (24, 5)]
    for name, (scale, zero_point) in found[0].items():
        other_scale, other_zero = found[1][name]
        # The forward pass sums in another order for another batch size: float32 noise, amplified at most by a
        # neighbouring bin of the histogram observers, each 2^-10 wide.
        torch.testing.assert_close(scale, other_scale, rtol=2e-3, atol=0)
        assert bool(((zero_point - other_zero).abs() <= 1).all())


def test_methods_use_their_own_number_of_images(graph):
    counts = []
    chosen = load_recipe("int8").model_copy(update={"method_images": 7})
    calibrate(graph, chosen, batches(4), lambda *told: counts.append(told))
    statistics = [("statistics", n, 0) for n in (4, 7)]
    assert counts == statistics + [("calibrating", n, 0) for n in range(4, 25, 4)]


def live_tensors() -> int:
    gc.collect()
    found = {
        o.untyped_storage().data_ptr(): o.untyped_storage().nbytes()
        for o in gc.get_objects()
        if type(o) is torch.Tensor
    }
    return sum(found.values())


def test_memory_does_not_grow_with_the_images(graph):
    def many(count: int, seen: list[int]):
        def stream(limit: int | None):
            for i in range(count if limit is None else 2):
                if i == count - 1:  # the last batch of the long pass
                    seen.append(live_tensors())
                yield torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(i))

        return stream

    peaks = []
    for count in (6, 18):
        seen: list[int] = []
        calibrate(graph, recipe(methods=[{"name": "layer_norm_linear"}]), many(count, seen))
        peaks.append(seen[-1])
    assert peaks[1] <= 1.02 * peaks[0]


@pytest.mark.parametrize("name", ["t", "int8"])
def test_an_empty_set_is_refused(graph, name):
    chosen = recipe() if name == "t" else load_recipe(name)  # without and with a pass for the methods
    with pytest.raises(BadInput, match="the calibration set is empty"):
        calibrate(graph, chosen, lambda _: [])


@pytest.mark.parametrize(("name", "where"), [("t", "fc2.input"), ("int8", "act")])
def test_nan_names_the_layer(model, name, where):
    with torch.no_grad():
        model.fc1.bias[3] = torch.nan
    chosen = recipe() if name == "t" else load_recipe(name)
    with pytest.raises(BadInput, match=rf"'{where}' hold NaN"):
        calibrate(capture(model, images(2)), chosen, batches(8))


def test_nan_in_the_images_names_the_first_layer(graph):
    with pytest.raises(BadInput, match=r"'stem\.input' hold NaN"):
        calibrate(graph, recipe(), lambda _: [torch.full((2, 3, 8, 8), torch.nan)])


def test_a_recipe_that_matches_nothing_is_refused(graph):
    with pytest.raises(BadInput, match="recipe 't' quantizes no layer"):
        calibrate(graph, recipe(include=["encoder.*"]), batches(8))


def test_prepare_with_stored_ranges_builds_the_same_graph(graph, model):
    first = calibrate(graph, load_recipe("int8"), batches(8))
    again = prepare(capture(model, images(2)), load_recipe("int8"), first.knowledge)
    assert [s.name for s in again.sites] == [s.name for s in first.sites]
    assert again.notes == first.notes
    assert torch.equal(again.graph(images(4)), first.graph(images(4)))


def test_channels_are_ignored_only_by_formats_with_one_scale():
    from quant.fake_quantize import FakeQuantize
    from quant.spec import QuantSpec

    x = torch.tensor([[1.0, 50.0, -2.0], [3.0, -60.0, 0.5]])
    found = {}
    for granularity in ("per_tensor", "per_channel"):
        layer = FakeQuantize(QuantSpec(granularity=granularity, axis=-1), "x")
        layer.watch_channels(-1)
        layer.ignore_channels((1,))
        layer.observe()
        layer(x)
        found[granularity] = [v.tolist() for v in layer.observer.range()]
    assert found == {"per_tensor": [-2.0, 3.0], "per_channel": [[1.0, -60.0, -2.0], [3.0, 50.0, 0.5]]}
