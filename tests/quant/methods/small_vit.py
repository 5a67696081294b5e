"""A small pre-norm transformer with uneven channels, and its calibration."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn

from quant.calibrate import CalibratedGraph, calibrate
from quant.encoding import Encoding, freeze
from quant.graph import capture
from quant.recipe import Recipe, parse

WIDTH, HEADS, HIDDEN, TOKENS = 24, 3, 64, 9


class Block(nn.Module):
    """One block: attention as timm writes it, MLP, and LayerScale where asked for."""

    def __init__(self, layer_scale: bool = False, normed: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.act, self.fc2 = nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH)
        self.gamma = nn.Parameter(torch.full((WIDTH,), 0.3)) if layer_scale else None
        self.q_norm = nn.LayerNorm(WIDTH // HEADS) if normed else nn.Identity()

    def attention(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).reshape(x.shape[0], x.shape[1], 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        y = nn.functional.scaled_dot_product_attention(self.q_norm(q), k, v)
        result: Tensor = self.proj(y.transpose(1, 2).reshape(x.shape))
        return result

    def forward(self, x: Tensor) -> Tensor:
        gamma = 1.0 if self.gamma is None else self.gamma
        x = x + gamma * self.attention(self.norm1(x))
        result: Tensor = x + gamma * self.fc2(self.act(self.fc1(self.norm2(x))))
        return result


class SmallVit(nn.Module):
    """A block, a LayerNorm and a head that reads the first token."""

    def __init__(self, **options: bool) -> None:
        super().__init__()
        self.block = Block(**options)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if name.endswith(("norm1.weight", "norm2.weight")):
                    parameter.copy_(noise.exp())  # channels of very different range
                elif "gamma" not in name:
                    parameter.copy_(noise * 0.3)
            rows = self.block.qkv.weight
            rows *= (torch.randn(len(rows), 1, generator=generator) * 0.8).exp()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.norm(self.block(x))[:, 0])
        return result


@cache
def small_vit(**options: bool) -> SmallVit:
    """The model, always the same one: do not change it."""
    return SmallVit(**options).eval()


@cache
def captured(model: nn.Module) -> fx.GraphModule:
    return capture(model.eval(), images(2))


def images(count: int = 64, seed: int = 1) -> Tensor:
    return torch.randn(count, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))


def recipe(*methods: dict[str, Any], roles: dict[str, str] | None = None, **specs: dict[str, Any]) -> Recipe:
    weight = {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"}
    settings = {
        "name": "t",
        "specs": {
            "a": {"bits": 8} | specs.get("activation", {}),
            "w": weight | specs.get("weight", {}),
        },
        "roles": {"linear.input": "a", "linear.weight": "w"} | (roles or {}),
        "methods": list(methods),
    }
    return parse(Recipe, settings, "t")


def calibrated(model: nn.Module, chosen: Recipe) -> CalibratedGraph:
    return calibrate(captured(model), chosen, lambda n: torch.split(images()[:n], 16))


def sqnr(result: Tensor, truth: Tensor) -> float:
    result, truth = result.detach().double(), truth.detach().double()
    return float(10 * torch.log10(truth.square().sum() / (result - truth).square().sum()))


def quantized_sqnr(model: nn.Module, chosen: Recipe) -> float:
    """SQNR in dB of the quantized model's output on images it was not calibrated on."""
    result = calibrated(model, chosen)
    freeze(result, Encoding())
    x = images(32, seed=2)
    return sqnr(result.graph(x), model(x))
