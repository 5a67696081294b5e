"""The actor: a transformer with one token per user and one logit per token.

Pre-norm blocks as in Xiong et al., "On layer normalization in the transformer architecture" (2020); positions
are learned, because users differ in what the features do not say (their rate's weight). It is built of
modules that ``torch.export`` and Octavo's recipes know by role: linear layers, LayerNorm, GELU and scaled
dot-product attention.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.mec.features import FEATURES

__all__ = ["MecTransformer", "mec_transformer"]

_FAR = -1e4  # added to scores of absent users: exp of it is 0, and unlike −∞ it can be computed with


class Attention(nn.Module):
    """Self-attention over the users."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Map [B, N, d] to [B, N, d]; the mask [B, 1, 1, N] is added to the scores."""
        batch, users, width = tokens.shape
        qkv = (
            self.qkv(tokens).reshape(batch, users, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        query, key, value = qkv.unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, users, width))
        return projected


class Block(nn.Module):
    """A pre-norm block: x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """Map [B, N, d] to [B, N, d]."""
        tokens = tokens + self.attn(self.norm1(tokens), mask)
        added: Tensor = tokens + self.fc2(self.act(self.fc1(self.norm2(tokens))))
        return added


class MecTransformer(nn.Module):
    """Logits of offloading.

    With ``masked`` the fourth feature of a token says whether its user is there; nobody attends to the
    others, so what stands in their tokens changes nothing, and their own logits are −1. The mask is made
    inside, so the model has one input either way.

    Attributes:
        input_shape: shape (N, 3) or (N, 4) of one input, which Octavo reads.
        num_classes: N, the number of outputs.
    """

    def __init__(
        self,
        users: int = 10,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        hidden: int = 128,
        masked: bool = False,
    ) -> None:
        super().__init__()
        self.masked = masked
        self.input_shape = (users, FEATURES + masked)
        self.num_classes = users
        self.embed = nn.Linear(FEATURES, width)
        self.positions = nn.Parameter(torch.randn(users, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [B, N, 3], or [B, N, 4] with ``masked``, to logits [B, N]."""
        mask = there = None
        if self.masked:
            there = tokens[..., FEATURES]
            mask = ((1 - there) * _FAR)[:, None, None]
            tokens = tokens[..., :FEATURES]
        hidden = self.embed(tokens) + self.positions
        for block in self.blocks:
            hidden = block(hidden, mask)
        logits: Tensor = self.head(self.norm(hidden)).squeeze(-1)
        return logits if there is None else (logits + 1) * there - 1


def mec_transformer(
    users: int = 10, width: int = 64, depth: int = 2, heads: int = 4, hidden: int = 128, masked: bool = False
) -> MecTransformer:
    """Build the actor, for ``model: {name: examples.mec.transformer:mec_transformer}``."""
    return MecTransformer(users, width, depth, heads, hidden, masked)
