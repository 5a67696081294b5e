import pytest
import torch
from torch import nn

from quant.graph import capture
from quant.tuning.device import place, training_device, working_on


class CreatesTensors(nn.Module):
    """Parameters, a buffer, and a tensor made in ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("shift", torch.ones(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ramp = torch.arange(6, dtype=torch.float32, device=x.device)
        return self.linear(x) * ramp + self.shift


def captured():
    return capture(CreatesTensors().eval(), torch.randn(2, 6))


def test_a_placed_graph_runs_there_with_all_it_reads_and_makes():
    graph = captured()
    assert any("device" in node.kwargs for node in graph.graph.nodes)
    place(graph, torch.device("meta"))  # refuses to mix with tensors that were left behind
    assert graph(torch.empty(3, 6, device="meta")).device.type == "meta"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_graph_gives_the_same_before_during_and_after(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    graph, x = captured(), torch.randn(4, 6)
    wanted = graph(x)
    with pytest.raises(KeyError), working_on(torch.device(device), [graph]):  # noqa: PT012
        found = graph(x.to(device))
        assert found.device.type == device
        torch.testing.assert_close(found.cpu(), wanted)
        raise KeyError
    assert torch.equal(graph(x), wanted)


def test_without_a_gpu_the_cpu_trains(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_device().type == "cuda"
