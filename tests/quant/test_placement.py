import pytest
import torch
from torch import fx, nn

from quant.errors import BadInput
from quant.fake_quantize import FakeQuantState
from quant.graph import capture
from quant.placement import Site, check_groups, place_fake_quant
from quant.recipe import Recipe, parse

SPECS = {
    "a8": {"bits": 8},
    "a4": {"bits": 4},
    "w8": {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"},
}
CONV = {"conv.input": "a8", "conv.weight": "w8", "conv.output": "a8"}


def place(model: nn.Module, shape: tuple[int, ...], **recipe) -> tuple[fx.GraphModule, list[Site]]:
    torch.manual_seed(0)
    graph = capture(model.eval(), torch.randn(2, *shape))
    return graph, place_fake_quant(graph, parse(Recipe, {"name": "t", "specs": SPECS} | recipe, "t"))


def convs() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))


def test_off_sites_change_nothing_and_their_paths_lead_to_them():
    model = convs().eval()
    graph, sites = place(model, (3, 8, 8), roles=CONV)
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(graph(x), model(x))
    for site in sites:
        assert site.quantizer.state is FakeQuantState.OFF
        assert graph.get_submodule(site.path) is site.quantizer
        assert site.node.target == site.path


def test_one_format_on_one_tensor_is_one_site():
    _, sites = place(convs(), (3, 8, 8), roles=CONV)
    assert [(s.name, s.roles) for s in sites if not s.is_weight] == [
        ("0.input", ("conv.input",)),
        ("0.output", ("conv.output", "conv.input")),
        ("2.output", ("conv.output",)),
    ]


def test_a_reader_with_another_format_has_its_own_site_and_no_site_is_idle():
    override = {"modules": "2", "roles": {"conv.input": "a4"}}
    graph, sites = place(convs(), (3, 8, 8), roles=CONV, overrides=[override])
    by_name = {site.name: site for site in sites}
    assert "0.output" not in by_name  # its only reader wants other codes
    assert by_name["2.input"].spec.bits == 4
    assert all(site.node.users for site in sites)
    second = [n for n in graph.graph.nodes if "conv2d" in str(n.target)][1]
    assert second.args[0] is by_name["2.input"].node


def test_an_output_keeps_the_readers_that_ask_for_nothing_else():
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            return self.b(y) + y.sigmoid()

    override = {"modules": "b", "roles": {"conv.input": "a4"}}
    _, sites = place(Fork(), (3, 8, 8), roles=CONV, overrides=[override])
    readers = {s.name: [str(n.target) for n in s.node.users] for s in sites if not s.is_weight}
    assert readers["a.output"] == ["aten.sigmoid.default"]
    assert readers["b.input"] == ["aten.conv2d.default"]


def test_a_recipe_that_matches_nothing_places_nothing():
    assert place(convs(), (3, 8, 8), roles=CONV, include=["nothing"])[1] == []


def test_placement_is_the_same_every_time():
    names = [
        [(s.name, str(s.node.meta["nn_module_stack"])) for s in place(convs(), (3, 8, 8), roles=CONV)[1]]
        for _ in range(2)
    ]
    assert names[0] == names[1]


def test_groups_that_do_not_fit_are_refused_before_anything_is_done() -> None:
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 8))
    spec = {"bits": 4, "signed": True, "symmetric": True, "granularity": "per_group", "group_size": 32}
    recipe = {"name": "groups", "specs": {"w": spec}, "roles": {"linear.weight": "w"}}
    graph = capture(model.eval(), torch.randn(2, 64))
    said = (
        r"'2\.weight' of shape \[24, 48\] has no whole groups of 32 \(and 1 more\): name such layers in `excl"
    )
    with pytest.raises(BadInput, match=said):
        check_groups(graph, Recipe.model_validate(recipe))
    check_groups(graph, Recipe.model_validate({**recipe, "exclude": ["2", "4"]}))
