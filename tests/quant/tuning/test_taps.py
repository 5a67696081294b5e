import torch
from torch import nn

from quant.graph import capture
from quant.tuning.taps import with_taps


def test_a_tapped_graph_returns_inner_values_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    x = torch.randn(5, 4)
    graph = capture(model, x)
    names = {node.name for node in graph.graph.nodes if "relu" in node.name}
    output, values = with_taps(graph, names)(x)
    assert torch.equal(output, model(x))
    assert len(values) == 1
    assert torch.equal(values[0], model[:2](x))
