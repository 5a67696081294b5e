"""Layers as layer methods get them, from small models."""

import functools
from typing import Any

import torch
from torch import Tensor, fx, nn

from quant.calibrate import calibrate
from quant.encoding import Encoding, freeze
from quant.graph import capture
from quant.methods import MethodNote, make_method
from quant.methods.registry import WeightsOnly
from quant.recipe import Recipe
from quant.tuning.layer import Layer
from quant.tuning.model import Tuning
from quant.tuning.parameters import TunedParameters
from quant.tuning.walk import walk

FORMATS: dict[str, dict[str, Any]] = {
    "symmetric": {"bits": 4, "signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"},
    "affine": {"bits": 4, "granularity": "per_channel"},
    "tensor": {"bits": 4, "signed": True, "symmetric": True},
    "group": {"bits": 4, "signed": True, "symmetric": True, "granularity": "per_group", "group_size": 4},
    "affine_group": {"bits": 4, "granularity": "per_group", "group_size": 4},
}


class Net(nn.Module):
    """A patch convolution, a grouped convolution, a depthwise one and two linear layers, unevenly scaled."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.grouped = nn.Conv2d(8, 8, (3, 4), padding=1, groups=2)
        self.depthwise = nn.Conv2d(8, 8, (3, 4), padding=1, groups=8)
        self.mix = nn.Linear(8, 16)
        self.fc = nn.Linear(16, 6)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
            self.mix.weight *= torch.rand(16, 8, generator=generator) + 0.1

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.patch(x)).relu()
        x = self.depthwise(x).relu()
        y = torch.relu(self.mix(x.flatten(2).transpose(1, 2)))
        result: Tensor = self.fc(y)
        return result


LAYERS = ("patch", "grouped", "depthwise", "mix", "fc")


def images(count: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 3, 24, 24, generator=generator)
    return nn.functional.avg_pool2d(x, 3, stride=1, padding=1) * 3.0  # neighbours are correlated


def recipe(weight: dict[str, Any], input_bits: int | None = 8, *methods: dict[str, Any]) -> Recipe:
    kinds = ("linear", "patch_conv", "conv")
    roles = {f"{kind}.weight": "w" for kind in kinds}
    specs = {"w": weight}
    if input_bits is not None:
        roles |= {f"{kind}.input": "a" for kind in kinds}
        specs["a"] = {"bits": input_bits}
    return Recipe.model_validate({"name": "t", "specs": specs, "roles": roles, "methods": methods})


def layers(
    weight: dict[str, Any] | str = "symmetric",
    input_bits: int | None = 8,
    model: nn.Module | None = None,
    x: Tensor | None = None,
) -> dict[str, Layer]:
    """Every layer of the calibrated model by name, nothing tuned; batches of 4 images."""
    x = images() if x is None else x
    chosen = recipe(FORMATS[weight] if isinstance(weight, str) else weight, input_bits)
    graph = _net() if model is None else capture(model.eval(), x[:2])
    calibrated = calibrate(graph, chosen, lambda n: torch.split(x[:n], 4))
    freeze(calibrated, Encoding())
    tuning = Tuning(
        graph=calibrated.graph,
        reference=calibrated.reference,
        sites=calibrated.sites,
        parameters=TunedParameters(calibrated.graph, calibrated.changes),
        batches=list(torch.split(x, 4)),
        seed=0,
        progress=lambda *_: None,
    )
    found = _Keep()
    walk(tuning, [found])
    return found.layers


def tune(layer: Layer, name: str, **options: Any) -> MethodNote:
    """Run a method on one layer."""
    method: Any = make_method(name, options)
    note: MethodNote = method.tune_layer(layer)
    return note


def output_error(layer: Layer) -> float:
    """Squared error of the quantized layer's outputs against the float reference's, float64."""
    pairs = zip(layer.outputs(), layer.float_outputs, strict=True)
    return sum(float((a.double() - b.double()).square().sum()) for a, b in pairs)


def weight_error(layer: Layer, weight: Tensor, quantized: Tensor) -> float:
    """Squared change of the outputs, over all tuning images, from replacing ``weight`` by ``quantized``."""
    zero = torch.zeros(len(weight))
    inputs = torch.cat(list(layer.quantized_inputs()))
    return float(layer.output(inputs, quantized - weight, zero).double().square().sum())


@functools.cache
def _net() -> fx.GraphModule:
    return capture(Net().eval(), images(2))


class _Keep(WeightsOnly):
    def __init__(self) -> None:
        self.layers: dict[str, Layer] = {}

    def tune_layer(self, layer: Layer) -> None:
        self.layers[layer.name] = layer
