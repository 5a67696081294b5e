import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch import Tensor, fx, nn
from torch.nn import functional

from quant.calibrate import calibrate
from quant.calibrated import CalibratedGraph
from quant.encoding import Encoding, freeze
from quant.graph import capture
from quant.recipe import Recipe

EVERYTHING = {"rows": 10**6, "images": 10**6, "pairs": 10**6}
TOKENS, WIDTH, HEADS = 6, 8, 2


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        for index, parameter in enumerate(self.parameters()):
            draw = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
            parameter.data.copy_(draw**3 * 0.3)  # heavy tails

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).reshape(x.shape[0], x.shape[1], 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(x.shape))


def images(count: int = 6, tokens: int = TOKENS) -> Tensor:
    return torch.randn(count, tokens, WIDTH, generator=torch.Generator().manual_seed(9))


@cache
def captured(tokens: int) -> fx.GraphModule:
    return capture(Attention().eval(), images(2, tokens))


def run(*methods: dict[str, Any], shown: Tensor | None = None, quantized: bool = True) -> CalibratedGraph:
    """4 bits for q and k, the layer in front of them in float, so that its outputs are known."""
    shown = images() if shown is None else shown
    settings: dict[str, Any] = {
        "name": "t",
        "specs": {
            "qk": {"bits": 4},
            "weight": {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"},
        },
        "roles": {"linear.weight": "weight"} | ({"attention_qk.input": "qk"} if quantized else {}),
        "exclude": ["qkv"],
        "methods": list(methods),
    }
    found = calibrate(captured(shown.shape[1]), Recipe.model_validate(settings), lambda n: shown[:n].split(4))
    freeze(found, Encoding())
    return found


def ranges(found: CalibratedGraph) -> dict[str, tuple[float, float]]:
    sites = (s for s in found.sites if s.role == "attention_qk.input")
    return {s.name[-1]: tuple(float(end) for end in s.quantizer.range) for s in sites}  # type: ignore[misc]


def operands(found: CalibratedGraph) -> tuple[Tensor, Tensor]:
    """What stands in front of the quantizers of q and k."""
    seen: dict[str, Tensor] = {}
    for s in found.sites:
        if s.role == "attention_qk.input":
            s.quantizer.register_forward_pre_hook(
                lambda _, given, key=s.name[-1]: seen.update({key: given[0]})
            )
    with torch.no_grad():
        found.graph(images())
    return seen["a"], seen["b"]


def rounded(x: Tensor, low: float, high: float) -> Tensor:
    scale = (high - low) / 15
    zero_point = round(-low / scale)
    return (torch.clamp(torch.round(x.double() / scale) + zero_point, 0, 15) - zero_point) * scale


def objective(found: Tensor, wanted: Tensor, gamma: float, theta: float) -> float:
    """In loops, with SciPy's correlation."""
    gammas = [
        pearsonr(a.flatten().double().numpy(), b.flatten().double().numpy()).statistic
        for a, b in zip(found, wanted, strict=True)
    ]
    losses = []
    for a, b in zip(found.reshape(-1, TOKENS).tolist(), wanted.reshape(-1, TOKENS).tolist(), strict=True):
        for i, j in itertools.combinations(range(TOKENS), 2):
            losses.append(max(0.0, theta - (a[i] - a[j]) * np.sign(b[i] - b[j])))
    return float(np.mean(gammas) - gamma * np.mean(losses))


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_the_ranges_are_a_best_pair_by_brute_force(gamma: float) -> None:
    options = {"name": "ranking_aware", "gamma": gamma, "theta": 0.3, "candidates": 6, "rounds": 20}
    searched, plain = run(options | EVERYTHING), run()
    q, k = operands(plain)
    (start_q, start_k), (end_q, end_k) = (tuple(ranges(found).values()) for found in (plain, searched))
    factors = [1.0, *np.linspace(0.5, 1.2, 6)]
    float_scores = (q.double() @ k.double()).float()

    def score(range_q: tuple[float, float], range_k: tuple[float, float]) -> float:
        product = rounded(q, *range_q) @ rounded(k, *range_k)
        return objective(product, float_scores, gamma, 0.3)

    def times(base: tuple[float, float], factor: float) -> tuple[float, float]:
        return base[0] * factor, base[1] * factor

    reached = score(end_q, end_k)
    # neither range can be bettered alone, up to float32 rounding in the product
    assert reached >= max(score(times(start_q, f), end_k) for f in factors) - 1e-5
    assert reached >= max(score(end_q, times(start_k, f)) for f in factors) - 1e-5
    assert reached > score(start_q, start_k) + 1e-3
    (note,) = searched.notes
    before, after = (float(part) for part in note.text.split()[-3::2])
    assert (before, after) == pytest.approx((score(start_q, start_k), reached), abs=2e-5)  # five decimals


def test_useless_factors_leave_min_max() -> None:
    options = {"name": "ranking_aware", "low": 0.001, "high": 0.002} | EVERYTHING
    searched = run(options)
    assert ranges(searched) == ranges(run())
    assert [n.applied for n in searched.notes] == [False]


def test_the_ranking_term_buys_order_with_correlation() -> None:
    found = {gamma: run({"name": "ranking_aware", "gamma": gamma} | EVERYTHING) for gamma in (0.0, 100.0)}
    parts = {}
    for gamma, graph in found.items():
        q, k = operands(graph)
        product = rounded(q, *ranges(graph)["a"]) @ rounded(k, *ranges(graph)["b"])
        wanted = (q.double() @ k.double()).float()
        correlation = objective(product, wanted, 0.0, 0.2)
        parts[gamma] = correlation, correlation - objective(product, wanted, 1.0, 0.2)
    assert parts[100.0][0] < parts[0.0][0]
    assert parts[100.0][1] < parts[0.0][1]


def test_draws_follow_the_seed_and_repeat() -> None:
    def note(seed: int) -> str:
        options = {"name": "ranking_aware", "pairs": 3, "rows": 32, "seed": seed}
        return run(options, shown=images(16, 48)).notes[0].text

    assert note(0) == note(0)
    assert note(0) != note(1)


def test_q_and_k_in_float_are_left_alone() -> None:
    found = run({"name": "ranking_aware"}, quantized=False)
    assert found.notes == []
