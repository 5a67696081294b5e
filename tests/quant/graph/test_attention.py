import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as attention

from quant.errors import Unsupported
from quant.graph import capture
from quant.graph.nodes import is_call
from quant.roles import find_places

aten = torch.ops.aten
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}  # the fused kernel sums in another order, in float32


class Attend(nn.Module):
    """Attention of [B, 2, 5, 8] cut out of [B, 2, 5, 24]; ``mask`` as ``attn_mask``."""

    def __init__(self, mask: torch.Tensor | None = None, **options: object) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.options = options

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = x.chunk(3, dim=-1)
        return attention(q, k, v, attn_mask=self.mask, **self.options)


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


def mask() -> torch.Tensor:
    return torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "model",
    [
        Attend(),
        Attend(mask()),
        Attend(mask(), scale=0.25),
        Attend(scale=0.0),
        Attend(is_causal=True),
    ],
    ids=["plain", "mask", "mask-and-scale", "scale-zero", "causal"],
)
def test_the_visible_form_equals_the_fused_one(model):
    torch.manual_seed(0)
    graph = capture(Outer(model).eval(), torch.randn(2, 2, 5, 24))
    x = torch.randn(3, 2, 5, 24)
    torch.testing.assert_close(graph(x), model(x), **TOLERANCE)
    assert not any(is_call(n, aten.scaled_dot_product_attention.default) for n in graph.graph.nodes)
    roles = [place.role for place in find_places(graph)]
    assert roles == ["attention_qk.input"] * 2 + ["softmax.input", "softmax.output", "attention_pv.input"]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Attend(dropout_p=0.5), "dropout_p=0.5"),
        (Attend(mask() > 0), "boolean mask"),
    ],
)
def test_what_cannot_be_written_is_refused_with_the_module(model, why):
    with pytest.raises(Unsupported, match=rf"'inner'.*{why}"):
        capture(Outer(model).eval(), torch.randn(2, 2, 5, 24))


def test_two_causal_attentions_in_one_module_keep_their_own_masks():
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            short = x[:, :, :3]
            return attention(x, x, x, is_causal=True)[:, :, :3] + attention(
                short, short, short, is_causal=True
            )

    torch.manual_seed(0)
    model, x = Twice().eval(), torch.randn(2, 2, 5, 8)
    torch.testing.assert_close(capture(model, x)(x), model(x), **TOLERANCE)
