"""ResNet-18 for the 32 × 32 images of CIFAR (He et al., 2015, "Deep Residual Learning", table 1).

ImageNet's 7 × 7 stem and its pooling, which leave 8 × 8 of such an image, are a 3 × 3 convolution of stride 1
here, as is usual for CIFAR. Shortcuts that change the shape are 1 × 1 convolutions (option B of section 3.3).
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from quant.models.cifar_resnet import BasicBlock

__all__ = ["CifarResNet18", "resnet18"]

_BLOCKS_PER_STAGE = 2


class CifarResNet18(nn.Module):
    """Four stages of two basic blocks, with 1, 2, 4 and 8 times ``width`` channels."""

    def __init__(self, num_classes: int, width: int) -> None:
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
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, stride=1)
        self.layer2 = _stage(width, 2 * width, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, stride=2)
        self.layer4 = _stage(4 * width, 8 * width, stride=2)
        self.linear = nn.Linear(8 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [N, 3, 32, 32] to logits [N, num_classes]."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: torch.Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    if inputs != outputs:
        shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        first.register_module("shortcut", nn.Sequential(shortcut, nn.BatchNorm2d(outputs)))
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(_BLOCKS_PER_STAGE - 1)))


def resnet18(num_classes: int = 10, width: int = 64) -> CifarResNet18:
    """Return ResNet-18: 11.2 M parameters at width 64, 0.70 M at width 16."""
    return CifarResNet18(num_classes, width)
