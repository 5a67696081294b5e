from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from quant.errors import BadInput, InternalError
from quant.fake_quantize import FakeQuantize
from quant.observers import make_observer, observer_names, register_observer, registry
from quant.observers.base import Observer
from quant.spec import QuantSpec

ALL = ["ema", "fixed", "kl", "minmax", "omse", "percentile"]
LAYOUTS: list[dict[str, Any]] = [
    {"granularity": "per_tensor"},
    {"granularity": "per_channel", "axis": 2},
    {"granularity": "per_channel", "axis": 1},
]


def heavy(*shape: int, seed: int = 0) -> Tensor:
    """Heavy tails, both signs, exact zeros, and channels of different width."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=generator) ** 3 * torch.linspace(0.1, 3.0, shape[-1])
    x[..., 0] = x[..., 0].clamp(min=0.0)
    return x


def observe(spec: QuantSpec, *batches: Tensor) -> Observer:
    observer = make_observer(spec, "x")
    for batch in batches:
        observer.update(batch)
    return observer


def test_all_are_found() -> None:
    assert observer_names() == [*ALL, "power_of_two"]  # which serves one layout, and has its own tests


# The first size is kept exactly by the sketch; the second overflows it, per tensor and per channel.
@pytest.mark.parametrize("shape", [(24, 5, 7), (300, 240, 6)])
@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=str)
@pytest.mark.parametrize("observer", ["kl", "minmax", "omse", "percentile"])
def test_batches_and_order_change_nothing(
    observer: str, layout: dict[str, Any], shape: tuple[int, ...]
) -> None:
    options = {"candidates": 10.0} if observer == "omse" else {}
    spec = QuantSpec.activation(4, observer=observer, observer_options=options, **layout)
    x = heavy(*shape)
    shuffled = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(1))]
    whole = observe(spec, x)
    for other in (observe(spec, *x.split(1)), observe(spec, *x.split(7)), observe(spec, *shuffled.split(50))):
        for target in (spec, QuantSpec(signed=True, symmetric=True, **layout)):
            for mine, theirs in zip(whole.range(target), other.range(target), strict=True):
                assert torch.equal(mine, theirs)
        assert whole.state().keys() == other.state().keys()
        assert all(torch.equal(whole.state()[key], other.state()[key]) for key in whole.state())


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("observer", ALL)
def test_shape_follows_the_layout_and_channels_do_not_mix(observer: str, layout: dict[str, Any]) -> None:
    spec = QuantSpec.activation(observer=observer, **layout)
    x = heavy(6, 5, 8)
    low, high = observe(spec, x).range()
    if spec.granularity == "per_tensor":
        assert low.shape == high.shape == ()
        return
    assert low.shape == high.shape == (x.shape[spec.axis],)
    one = QuantSpec.activation(observer=observer)
    for channel, values in enumerate(x.unbind(spec.axis)):
        alone = observe(one, values).range()
        torch.testing.assert_close((low[channel], high[channel]), alone, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("observer", ALL)
def test_groups(observer: str) -> None:
    layout: dict[str, Any] = {"granularity": "per_group", "group_size": 16}
    x = heavy(6, 64)
    low, high = observe(QuantSpec.weight(4, observer=observer, **layout), x).range()
    assert low.shape == high.shape == (6, 4)
    alone = observe(QuantSpec.weight(4, observer=observer, granularity="per_tensor"), x[3, 32:48]).range()
    torch.testing.assert_close((low[3, 2], high[3, 2]), alone, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("size", [50, 70_000])
@pytest.mark.parametrize("layout", LAYOUTS[:2], ids=str)
@pytest.mark.parametrize("observer", ALL)
def test_saved_and_loaded_it_goes_on_as_if_never_stopped(
    observer: str, layout: dict[str, Any], size: int
) -> None:
    spec = QuantSpec.activation(observer=observer, **layout)
    first, second = heavy(2, size, 2), heavy(2, 40, 2, seed=1)
    original = observe(spec, first)
    state = original.state()
    assert all(t.device.type == "cpu" and t.is_contiguous() for t in state.values())
    loaded = make_observer(spec, "x")
    loaded.load_state({key: tensor.clone() for key, tensor in state.items()})
    for _ in range(2):
        assert all(
            torch.equal(mine, theirs) for mine, theirs in zip(original.range(), loaded.range(), strict=True)
        )
        assert all(torch.equal(t, loaded.state()[key]) for key, t in original.state().items())
        original.update(second)
        loaded.update(second)


def test_an_observation_is_small() -> None:
    spec = QuantSpec.activation(observer="percentile")
    state = observe(spec, *heavy(40, 50, 768).split(10)).state()  # 6 MB of values
    assert sum(t.numel() * t.element_size() for t in state.values()) < 300_000


def test_ema_weighs_later_batches_more() -> None:
    spec = QuantSpec.activation(observer="ema", observer_options={"decay": 0.75})
    batches = [torch.tensor([-1.0, 4.0]), torch.tensor([-3.0, 0.0]), torch.tensor([-1.0, 8.0])]
    low, high = observe(spec, *batches).range()
    assert low.item() == 0.75 * (0.75 * -1 + 0.25 * -3) + 0.25 * -1
    assert high.item() == 0.75 * (0.75 * 4 + 0.25 * 0) + 0.25 * 8


def test_fixed_needs_no_data_and_keeps_its_range() -> None:
    spec = QuantSpec.activation(observer="fixed", observer_options={"low": -2.0, "high": 3.0})
    observer = make_observer(spec)
    assert [b.item() for b in observer.range()] == [-2.0, 3.0]
    observer.update(torch.tensor([100.0]))
    assert [b.item() for b in observer.range()] == [-2.0, 3.0]
    softmax = FakeQuantize(QuantSpec.activation(observer="fixed"), "softmax").freeze()
    assert softmax.scale.item() == pytest.approx(1 / 255)
    assert softmax.zero_point.item() == 0


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(BadInput, match=f"'median'.*known are {', '.join(ALL)}"):
        make_observer(QuantSpec.activation(observer="median"))
    with pytest.raises(BadInput, match="no option beta; allowed: alpha"):
        make_observer(QuantSpec.activation(observer="percentile", observer_options={"beta": 1.0}))
    with pytest.raises(BadInput, match="allowed: none"):
        make_observer(QuantSpec.activation(observer_options={"alpha": 1.0}))


@pytest.mark.parametrize(
    ("observer", "options"),
    [
        ("percentile", {"alpha": 0.4}),
        ("percentile", {"alpha": float("nan")}),
        ("ema", {"decay": 1.0}),
        ("omse", {"candidates": 0.0}),
        ("omse", {"candidates": 2.5}),
        ("kl", {"bins": 100.0}),
        ("fixed", {"low": 1.0, "high": 0.0}),
    ],
)
def test_options_out_of_range_are_refused(observer: str, options: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=r"'fc'.*(must be|needs)"):
        make_observer(QuantSpec.activation(observer=observer, observer_options=options), "fc")


def test_misuse_is_refused() -> None:
    spec = QuantSpec.activation(granularity="per_channel", axis=1)
    observer = observe(spec, torch.zeros(2, 3))
    with pytest.raises(BadInput, match="same channels in every batch"):
        observer.update(torch.zeros(2, 4))
    with pytest.raises(BadInput, match="is empty"):
        observer.update(torch.zeros(0, 3))
    with pytest.raises(BadInput, match="has no axis 1"):
        observer.update(torch.zeros(3))
    with pytest.raises(BadInput, match="not of observer 'minmax'"):
        observer.load_state({"shape": torch.tensor([3])})
    with pytest.raises(BadInput, match=r"not per_channel \(axis 1\)"):
        observer.load_state(observe(QuantSpec.activation(), torch.ones(2)).state())


def test_a_new_observer_is_one_decorated_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_OBSERVERS", dict(registry._OBSERVERS))

    @register_observer("first_batch")
    class FirstBatch(Observer):
        low: Tensor
        high: Tensor

        def _update(self, x: Tensor, low: Tensor, high: Tensor) -> None:  # noqa: ARG002
            if self.shape is None:
                self.low, self.high = low, high

        def _range(self, spec: QuantSpec) -> tuple[Tensor, Tensor]:  # noqa: ARG002
            return self.low, self.high

        def _tensors(self) -> dict[str, Tensor]:
            return {"low": self.low, "high": self.high}

        def _load(self, state: Mapping[str, Tensor]) -> None:
            self.low, self.high = state["low"], state["high"]

    layer = FakeQuantize(QuantSpec.activation(observer="first_batch"), "x")
    layer.observe()
    layer(torch.tensor([0.0, 2.55]))
    layer(torch.tensor([0.0, 100.0]))
    assert layer.freeze().scale.item() == pytest.approx(0.01)
    with pytest.raises(InternalError, match="first_batch"):
        register_observer("first_batch")(FirstBatch)
