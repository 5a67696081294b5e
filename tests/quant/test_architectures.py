"""The architectures that Octavo promises to serve, small and with random weights.

DeiT without distillation is the same network as ViT.
"""

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, fx, nn

from quant.calibrate import CalibratedGraph, calibrate
from quant.encoding import Encoding, WeightGuard, freeze
from quant.graph import capture, layer_name
from quant.graph.nodes import is_call
from quant.placement import place_fake_quant
from quant.recipe import load_recipe

aten = torch.ops.aten
SIZE = 64


VIT: dict[str, Any] = {"img_size": SIZE, "depth": 2}
CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (16, 32, 48, 64)}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": VIT,
    "deit_tiny_distilled_patch16_224": VIT,
    "swin_tiny_patch4_window7_224": {"img_size": SIZE, "window_size": 4, "depths": (2, 1), "embed_dim": 24}
    | {"num_heads": (3, 6)},
    "convnext_tiny": CONVNEXT,
    "convnextv2_atto": CONVNEXT,
}
CNNS: dict[str, dict[str, Any]] = {
    "resnet18": {"layers": (1, 1, 1, 1)},
    "mobilenetv3_small_050": {},
    "test_efficientnet": {},
}


@dataclass(frozen=True)
class Served:
    name: str
    model: nn.Module
    graph: fx.GraphModule
    calibrated: CalibratedGraph


def images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


@cache
def serve(name: str) -> Served:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, **(TRANSFORMERS | CNNS)[name]).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # unit statistics would hide a wrong fold
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    graph = capture(model, images(2, 1))
    return Served(name, model, graph, calibrate(graph, load_recipe("int8"), lambda _: [images(4, 2)]))


@pytest.fixture(params=[*TRANSFORMERS, *CNNS])
def served(request: pytest.FixtureRequest) -> Served:
    return serve(request.param)


def assert_equal_outputs(graph: fx.GraphModule, model: nn.Module) -> None:
    """At another batch size than traced, to float32 summation order: 1e-5 of the largest logit."""
    x = images(3, 3)
    with torch.no_grad():
        expected, found = model(x), graph(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def layers(graph: fx.GraphModule) -> list[fx.Node]:
    return [n for n in graph.graph.nodes if is_call(n, aten.linear.default, aten.conv2d.default)]


def test_the_captured_graph_is_the_model(served):
    assert_equal_outputs(served.graph, served.model)
    left = {str(n.target) for n in served.graph.graph.nodes if n.op == "call_function"}
    assert left.isdisjoint({"aten.scaled_dot_product_attention.default", "aten.batch_norm.default"})


def test_every_layer_is_called_what_the_model_calls_it(served):
    modules = [n for n, m in served.model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sorted(layer_name(node) for node in layers(served.graph)) == sorted(modules)


def test_every_layer_reads_quantized_input_and_weight(served):
    sites = {site.node: site for site in served.calibrated.sites}
    for node in layers(served.calibrated.graph):
        value, weight = (sites[n] for n in node.args[:2])
        assert weight.is_weight
        assert not value.is_weight
        assert value.node.args[0].op != "get_attr"


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_the_default_recipe_leaves_a_transformers_stream_float(name):
    served = serve(name)
    roles = {role for site in served.calibrated.sites for role in site.roles}
    assert roles.isdisjoint({"conv_add.input", "residual_add.input"})
    # An integer convolution has an integer output. In ConvNeXt LayerNorm, GELU or the stream read some.
    allowed = {"conv.output"} if "convnext" in name else set()
    quantized = {site.node: site.roles for site in served.calibrated.sites}
    for node in served.calibrated.graph.graph.nodes:
        if is_call(node, aten.add.Tensor, aten.softmax.int, aten.layer_norm.default, aten.gelu.default):
            unwanted = [n for n in node.all_input_nodes if not allowed.issuperset(quantized.get(n, ()))]
            assert not unwanted, f"{node} reads {unwanted}"
            assert len([n for n in node.all_input_nodes if n in quantized]) < 2  # never the stream itself


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
@pytest.mark.parametrize("named", [False, True], ids=["default", "with conv_add"])
def test_a_cnns_shortcuts_are_quantized_only_where_the_recipe_names_them(name, named):
    recipe = load_recipe("int8")
    if named:
        recipe = recipe.model_copy(update={"roles": {**recipe.roles, "conv_add.input": "feature_map"}})
    graph = copy.deepcopy(serve(name).graph)
    quantized = {site.node for site in place_fake_quant(graph, recipe)}
    adds = [n for n in graph.graph.nodes if is_call(n, aten.add.Tensor)]
    shortcuts = [n for n in adds if all(isinstance(a, fx.Node) for a in n.args[:2])]

    assert shortcuts
    if named:
        assert all(set(node.args[:2]) <= quantized for node in shortcuts)
    else:  # a convolution's output always is; a sum that comes back as the next shortcut never
        assert not any(
            is_call(s.args[0], aten.add.Tensor) and s in quantized for n in shortcuts for s in n.args
        )


def test_the_methods_keep_the_float_output(served):
    assert_equal_outputs(served.calibrated.graph, served.model)


def test_the_quantized_output_is_close(served):
    freeze(served.calibrated, Encoding(guard=WeightGuard.PAIRS))
    x = images(4, 2)
    with torch.no_grad():
        truth, found = served.model(x), served.calibrated.graph(x)
    for site in served.calibrated.sites:
        site.quantizer.off()
    assert bool(found.isfinite().all())
    noise = 10 * torch.log10(truth.square().mean() / (found - truth).square().mean())
    # 8 bits give some 30 dB a layer; 12 dB over all layers leaves room for random weights, whose signal
    # fades from layer to layer, and is out of reach where one layer is wrong.
    assert float(noise) > 12.0


@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("vit_tiny_patch16_224", 4),  # two blocks of norm1 and norm2
        ("swin_tiny_patch4_window7_224", 6),  # three blocks, norm1 through shift and windows
        ("convnext_tiny", 4),  # four blocks
    ],
)
def test_layer_norms_fold_into_the_layers_behind_them(name, norms):
    notes = serve(name).calibrated.notes
    folded = [n.layer for n in notes if n.method == "layer_norm_linear" and n.applied]
    assert len([layer for layer in folded if "blocks" in layer]) == norms


def test_a_padded_window_partition_is_not_folded():
    torch.manual_seed(0)
    options = {"img_size": SIZE, "window_size": 7, "depths": (1, 1), "num_heads": (2, 4), "embed_dim": 16}
    model = timm.create_model("swin_tiny_patch4_window7_224", num_classes=10, **options).eval()
    graph = capture(model, images(2, 1))
    assert any(is_call(n, aten.pad.default) for n in graph.graph.nodes)
    calibrated = calibrate(graph, load_recipe("int8"), lambda _: [images(4, 2)])
    notes = {n.layer: n.applied for n in calibrated.notes if n.method == "layer_norm_linear"}
    assert not notes["layers.0.blocks.0.norm1"]  # padding puts zeros between, which are not moved along
    assert notes["layers.0.blocks.0.norm2"]
    assert_equal_outputs(calibrated.graph, model)
