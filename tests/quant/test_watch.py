import torch
from torch import nn

from quant.graph import capture
from quant.watch import watch


def test_the_output_is_the_modules_and_the_values_are_seen_in_order():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    graph, x = capture(model, torch.randn(2, 4)), torch.randn(5, 4)
    calls = [n for n in graph.graph.nodes if n.op == "call_function"]
    seen = []
    output = watch(graph, calls, x, lambda node, value: seen.append((node, value)))
    assert torch.equal(output, model(x))
    assert [node for node, _ in seen] == calls
    values = [model[0](x), model[0](x).relu(), model(x)]
    assert all(torch.equal(value, expected) for (_, value), expected in zip(seen, values, strict=True))
    assert not output.requires_grad


def test_nodes_not_asked_for_are_not_shown():
    graph = capture(nn.Linear(4, 3).eval(), torch.randn(2, 4))
    watch(graph, [], torch.randn(2, 4), lambda node, _: (_ for _ in ()).throw(AssertionError(node)))
