"""ResNet-20 and ResNet-56 for CIFAR-10 (He et al., 2015, "Deep Residual Learning", section 4.2)."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["CifarResNet", "resnet20", "resnet56"]

_WIDTHS = (16, 32, 64)


class PaddedShortcut(nn.Module):
    """Option A of section 3.3: every second pixel, and zeros for the channels that are new."""

    def __init__(self, extra_channels: int) -> None:
        super().__init__()
        self.before = extra_channels // 2
        self.after = extra_channels - self.before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, C, H, W] to [N, C + extra, H / 2, W / 2]."""
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 else PaddedShortcut(outputs - inputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """A residual network of 6 n + 2 layers: three stages of n blocks, 16, 32 and 64 channels wide."""

    def __init__(self, blocks_per_stage: int, num_classes: int = 10) -> None:
        super().__init__()
        self.num_classes = num_classes
        # What timm calls the preprocessing of a model: the whole 32 × 32 image, normalised.
        self.pretrained_cfg: dict[str, Any] = {
            "input_size": (3, 32, 32),
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
        }
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.layer1 = _stage(_WIDTHS[0], _WIDTHS[0], blocks_per_stage, stride=1)
        self.layer2 = _stage(_WIDTHS[0], _WIDTHS[1], blocks_per_stage, stride=2)
        self.layer3 = _stage(_WIDTHS[1], _WIDTHS[2], blocks_per_stage, stride=2)
        self.linear = nn.Linear(_WIDTHS[2], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [N, 3, 32, 32] to logits [N, num_classes]."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def resnet20(num_classes: int = 10) -> CifarResNet:
    """Return ResNet-20: 3 blocks per stage, 0.27 M parameters."""
    return CifarResNet(3, num_classes)


def resnet56(num_classes: int = 10) -> CifarResNet:
    """Return ResNet-56: 9 blocks per stage, 0.85 M parameters."""
    return CifarResNet(9, num_classes)
