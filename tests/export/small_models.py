"""Small models, their calibration, and ONNX Runtime as the reference."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from deploy.onnxruntime.build import Optimization, SessionSettings, build_session
from quant.calibrate import CalibratedGraph, calibrate
from quant.graph import capture
from quant.recipe import Recipe, load_recipe


@dataclass(frozen=True)
class Served:
    """A model on its way: captured, calibrated, and the canonical QDQ file."""

    images: Tensor
    graph: fx.GraphModule
    calibrated: CalibratedGraph
    qdq: Path

    @property
    def example(self) -> Tensor:
        return self.images[:2]


def images_of(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def calibrated_of(
    model: nn.Module, images: Tensor, recipe: Recipe | None = None, dynamic: bool = True
) -> tuple[fx.GraphModule, CalibratedGraph]:
    size = 2 if dynamic else 1
    graph = capture(model.eval(), images[:size], dynamic)
    recipe = recipe or load_recipe("int8")
    return graph, calibrate(graph, recipe, lambda n: torch.split(images[:n], 8 if dynamic else 1))


def simple_recipe(**changes: Any) -> Recipe:
    """Min-max, linears and convolutions; ``activation`` and ``weight`` change the formats."""
    activation = {"bits": 8} | changes.get("activation", {})
    weight = {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"}
    roles = {f"{kind}.{end}": end for kind in ("linear", "patch_conv", "conv") for end in ("input", "weight")}
    roles |= changes.get("roles", {"conv.output": "input"})
    specs = {"input": activation, "weight": weight | changes.get("weight", {})}
    return Recipe.model_validate({"name": "test", "specs": specs, "roles": roles})


FP8: dict[str, Any] = {"scheme": "fp8_e4m3", "signed": True, "symmetric": True}


def weight_recipe(activation: dict[str, Any] | None = None, **weight: Any) -> Recipe:
    """Weights of linear layers, and their inputs where ``activation`` is given; min-max."""
    symmetric = {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"}
    specs: dict[str, Any] = {"weight": symmetric | weight}
    roles = {"linear.weight": "weight"}
    if activation is not None:
        specs["input"], roles["linear.input"] = {"bits": 8} | activation, "input"
    return Recipe.model_validate({"name": "test", "specs": specs, "roles": roles})


class Perceptron(nn.Module):
    """Two linear layers on tokens [N, 5, 64], and a head on their mean [N, 32]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2, self.head = nn.Linear(64, 48), nn.Linear(48, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc2(nn.functional.gelu(self.fc1(x)))
        y: Tensor = self.head(x.mean(dim=1))
        return y


def run(model: Path | onnx.ModelProto, images: Tensor, optimized: bool = False) -> NDArray[np.float64]:
    """ONNX Runtime's output; with optimizations off, Q and DQ are computed as specified."""
    mode = Optimization.ALL if optimized else Optimization.OFF
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    session = build_session(content, SessionSettings(optimization=mode))
    output = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    return np.asarray(output, dtype=np.float64)


def executed(model: Path | onnx.ModelProto, folder: Path) -> list[str]:
    """Operators of the graph that ONNX Runtime executes."""
    path = folder / "executed.onnx"
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    build_session(content, SessionSettings(optimized_model_path=path))
    return [node.op_type for node in onnx.load(path).graph.node]


def tiny_vit() -> nn.Module:
    torch.manual_seed(0)
    options: dict[str, Any] = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 48, "num_heads": 3}
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=10, **options)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return model


class SmallCnn(nn.Module):
    """A patch convolution, a 3×3 convolution with ReLU, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, stride=2)
        self.conv = nn.Conv2d(8, 12, 3, padding=1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.stem(x)).relu()
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def small_cnn() -> nn.Module:
    torch.manual_seed(0)
    return SmallCnn()
