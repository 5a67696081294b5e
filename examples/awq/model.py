"""A perceptron without biases that reads scikit-learn's 8×8 digits: 64 → 128 → 256 → 128 → 10."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DigitsMlp", "digits_mlp"]

_SIDE = 8  # pixels
_WIDTHS = (64, 128, 256, 128, 10)


class DigitsMlp(nn.Module):
    """Four linear layers with ReLU between them; ReLU(x / s) = ReLU(x) / s lets a scale pass through."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = _WIDTHS[-1]
        # What timm calls the preprocessing of a model: ink from 0 (paper) to 1, and nothing is resized.
        self.pretrained_cfg: dict[str, Any] = {
            "input_size": (1, _SIDE, _SIDE),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": (0.0,),
            "std": (1.0,),
        }
        inputs, outputs = _WIDTHS[:-1], _WIDTHS[1:]
        self.fc1, self.fc2, self.fc3, self.fc4 = (
            nn.Linear(i, o, bias=False) for i, o in zip(inputs, outputs, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, 1, 8, 8] to logits [N, 10]."""
        x = functional.relu(self.fc1(x.flatten(1)))
        x = functional.relu(self.fc2(x))
        x = functional.relu(self.fc3(x))
        logits: Tensor = self.fc4(x)
        return logits


def digits_mlp() -> DigitsMlp:
    """Return the network, with random weights."""
    return DigitsMlp()
