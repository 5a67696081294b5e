import pytest
import torch
from torch import nn

from quant.errors import BadInput, Unsupported
from quant.graph import capture, layer_name, module_of
from quant.graph.nodes import is_call

aten = torch.ops.aten


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.drop = nn.Linear(4, 8), nn.Linear(8, 3), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.pad(x, (0, 0, 0, 0))
        return self.fc2(self.drop(self.fc1(x).relu()))


@pytest.mark.parametrize("traced", [1, 2, 5])
def test_any_batch_size_runs_whatever_was_traced(traced):
    torch.manual_seed(0)
    model = Mlp().eval()
    graph = capture(model, torch.randn(traced, 4))
    x = torch.randn(7, 4)
    assert torch.equal(graph(x), model(x))


def test_static_batch_is_kept():
    graph = capture(Mlp().eval(), torch.randn(1, 4), dynamic_batch=False)
    output = next(n for n in graph.graph.nodes if n.op == "output").all_input_nodes[0]
    assert tuple(output.meta["val"].shape) == (1, 3)


def test_nodes_know_their_modules_and_identities_are_gone():
    graph = capture(Mlp().eval(), torch.randn(2, 4))
    linears = [n for n in graph.graph.nodes if is_call(n, aten.linear.default)]
    assert [layer_name(n) for n in linears] == ["fc1", "fc2"]
    assert [module_of(n) for n in linears] == ["fc1", "fc2"]
    called = {str(n.target) for n in graph.graph.nodes if n.op != "get_attr"}
    assert called.isdisjoint({"aten.dropout.default", "aten.pad.default", "_guards_fn"})


def test_padding_that_pads_stays():
    class Padded(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.pad(x, (0, 1))

    x = torch.randn(2, 4)
    assert torch.equal(capture(Padded().eval(), x)(x), nn.functional.pad(x, (0, 1)))


def test_the_model_is_not_changed():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = capture(model, torch.randn(2, 3, 8, 8))
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in graph.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_layer_that_is_the_whole_model_has_a_name():
    graph = capture(nn.Linear(4, 3).eval(), torch.randn(2, 4))
    (linear,) = (n for n in graph.graph.nodes if is_call(n, aten.linear.default))
    assert layer_name(linear) == "linear"


def test_training_mode_is_refused():
    with pytest.raises(BadInput, match="training mode"):
        capture(Mlp(), torch.randn(2, 4))


def test_wrong_input_size_is_named():
    with pytest.raises(BadInput, match=r"input of shape \[2, 5\]"):
        capture(Mlp().eval(), torch.randn(2, 5))


def test_data_dependent_control_flow_is_unsupported():
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(Unsupported, match=r"torch\.export refuses the model"):
        capture(Branches().eval(), torch.randn(2, 4))
