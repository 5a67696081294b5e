"""A transformer over the columns of a table: each column of a row is a token."""

import torch
from torch import nn
from torch.nn import functional

__all__ = ["TableTransformer", "build"]


class Block(nn.Module):
    """A pre-norm encoder block (Vaswani et al., 2017; Xiong et al., 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens [N, T, width] to tokens of the same shape."""
        n, t, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(mixed.transpose(1, 2).reshape(n, t, width))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class TableTransformer(nn.Module):
    """Classifies rows of `columns` standardised numbers."""

    def __init__(self, columns: int, classes: int, width: int = 32, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        # What Octavo asks a model that takes no images: the shape of an input, and the number of outputs.
        self.input_shape = (columns, 1)
        self.num_classes = classes
        self.embed = nn.Linear(1, width)
        self.column = nn.Parameter(0.02 * torch.randn(columns, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map rows [N, columns, 1] to logits [N, classes]."""
        x = self.embed(x) + self.column
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(self.norm(x).mean(dim=1))
        return logits


def build(columns: int = 30, classes: int = 2) -> TableTransformer:
    """The model that the configuration names."""
    return TableTransformer(columns, classes)
