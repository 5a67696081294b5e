import copy

import pytest
import torch
from torch import Tensor, fx, nn

from quant.errors import BadInput
from quant.fake_quantize import FakeQuantize, FakeQuantState
from quant.kernels import fake_quantize
from quant.spec import QuantSpec


def sample(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def calibrated(spec: QuantSpec, x: Tensor) -> FakeQuantize:
    layer = FakeQuantize(spec, "blocks.0.attn.qkv.input")
    layer.observe()
    layer(x)
    layer.freeze()
    layer.quantize()
    return layer


def test_life_of_a_layer() -> None:
    x = sample(4, 10)
    layer = FakeQuantize(QuantSpec.activation(4), "a.input")
    assert layer.state is FakeQuantState.OFF
    assert layer(x) is x
    layer.observe()
    assert layer(x) is x
    assert layer(2 * x) is not None
    q = layer.freeze()
    layer.quantize()
    assert q.scale.item() == pytest.approx((2 * (x.max() - x.min()) / 15).item())
    assert torch.equal(layer(x), fake_quantize(x, q))
    layer.off()
    assert layer(x) is x


def test_quantizing_before_calibration_is_refused() -> None:
    layer = FakeQuantize(QuantSpec.activation(), "head.input")
    layer.quantize()
    with pytest.raises(BadInput, match=r"'head.input' .* calibrate first"):
        layer(sample(3))
    with pytest.raises(BadInput, match=r"'head.input' .* calibrate first"):
        layer.freeze()


@pytest.mark.parametrize("observer", ["minmax", "ema", "percentile", "omse", "kl"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_bad_activations_name_the_layer(observer: str, bad: float) -> None:
    layer = FakeQuantize(QuantSpec.activation(observer=observer), "blocks.3.mlp.fc1.input")
    layer.observe()
    x = sample(4, 10)
    layer(x)
    before = layer.observer.state()
    broken = x.clone()
    broken[2, 3] = bad
    with pytest.raises(BadInput, match=r"'blocks.3.mlp.fc1.input' hold NaN or infinity \(1 of 40\)"):
        layer(broken)
    after = layer.observer.state()
    assert all(torch.equal(before[key], after[key]) for key in before), "the bad batch left a trace"


def test_one_observation_serves_another_format() -> None:
    x = sample(100) + 0.5
    layer = calibrated(QuantSpec.activation(), x)
    other = layer.freeze(QuantSpec(signed=True, symmetric=True))
    assert other.scale.item() == pytest.approx(x.abs().max().item() / 127)
    assert (layer.qmin, layer.qmax, other.zero_point.item()) == (-128, 127, 0)
    assert torch.equal(layer(x), fake_quantize(x, other))
    with pytest.raises(BadInput, match="calibrate again"):
        layer.freeze(QuantSpec.weight())


def test_parameters_are_buffers_that_follow_the_module() -> None:
    layer = calibrated(QuantSpec.weight(), sample(8, 16))
    assert set(dict(layer.named_buffers())) == {"scale", "zero_point"}
    clone = copy.deepcopy(layer)
    x = sample(8, 16)
    assert torch.equal(clone(x), layer(x))
    assert layer.to("meta").qparams.scale.device.type == "meta"


def test_set_qparams_from_another_layer() -> None:
    x = sample(6, 32)
    source = calibrated(QuantSpec.weight(4, granularity="per_group", group_size=8), x)
    target = FakeQuantize(QuantSpec.weight(), "other.weight")
    target.set_qparams(source.qparams)
    target.quantize()
    assert torch.equal(target(x), source(x))


@pytest.mark.parametrize("observer", ["minmax", "ema", "percentile"])
def test_calibrated_in_inference_mode_it_still_trains(observer: str) -> None:
    layer = FakeQuantize(QuantSpec.activation(observer=observer), "fc.input")
    layer.observe()
    x = sample(300, 300)
    with torch.inference_mode():
        layer(x)
    layer(x)
    layer.freeze()
    layer.quantize()
    x = (0.5 * x).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.mean().item() > 0.99


def test_works_inside_a_graph_module() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.fc(x)
            return result

    torch.manual_seed(0)
    net = Net()
    graph = fx.symbolic_trace(net)
    quantizer = FakeQuantize(QuantSpec.activation(4), "fc.input")
    graph.add_submodule("fc_input", quantizer)
    node = next(n for n in graph.graph.nodes if n.op == "call_module")
    with graph.graph.inserting_before(node):
        inserted = graph.graph.call_module("fc_input", (node.args[0],))
    node.replace_input_with(node.args[0], inserted)
    graph.recompile()
    x = sample(5, 8)
    quantizer.observe()
    assert torch.equal(graph(x), net(x))
    q = quantizer.freeze()
    quantizer.quantize()
    assert torch.equal(graph(x), net(fake_quantize(x, q)))
    assert not torch.equal(graph(x), net(x))
    again = fx.GraphModule(graph, copy.deepcopy(graph.graph))
    assert torch.equal(again(x), graph(x))
