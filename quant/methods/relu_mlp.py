"""Put a ReLU in the place of the GELU of a transformer's MLP, and retrain the two linear layers around it.

With x sampled rows of what fc1 reads, for each fc1 → GELU → fc2::

    min over W1', b1', W2', b2' of  ‖y' − y‖² / ‖y − mean(y)‖²

    y = W2 GELU(W1 x + b1) + b2,    y' = W2' ReLU(W1' x + b1') + b2'

What fc2 reads is never negative then: an affine format begins at zero, and spends no codes on the shallow
side of GELU. This is **not exact**: the float network computes something else afterwards, by the relative
error that the notes tell. The method must therefore be the last one that rewrites the graph, and the float
reference goes on computing y (:mod:`quant.graph.originals`).

W2' and b2' start where the mean output is right, b2' = b2 + W2 @ mean(GELU(z) − ReLU(z)), z = W1 x + b1.
Adam with a cosine schedule trains on random points between two sampled rows each, since y is known
everywhere. The rows of the last images are held out: the state with the least error on them is kept, and
where that is above ``most_error`` the layer keeps its GELU. Units that a side path carries stay there.

Source: MLP reconstruction of APHQ-ViT (Wu et al. 2025, section 3.3), without its weights of importance and
its second, clipped term.
"""

import math
from collections.abc import Collection
from functools import cache

import torch
from pydantic import Field
from torch import Tensor, fx

from quant.graph.originals import remember_original
from quant.methods.gelu_linear import find_gelu_linears
from quant.methods.mlp import GeluMlp, MlpPlace, MlpWeights, find_mlp
from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.methods.statistics import Statistics
from quant.placement import spec_at
from quant.recipe import Recipe

__all__ = ["ReluMlp", "ReluMlpOptions", "train_relu_mlp"]

aten = torch.ops.aten
NAME = "relu_mlp"
_LOOKS = 10
"""How often the held-out rows are looked at."""


class ReluMlpOptions(MethodOptions):
    """Options.

    Attributes:
        iterations: steps per MLP.
        batch: rows per step.
        rate: learning rate, as a share of the root mean square of a layer's weights.
        held_out: share of the rows that judge.
        most_error: a layer with a larger held-out error, as a share of its output's variance, keeps GELU.
    """

    iterations: int = Field(default=300, ge=0)
    batch: int = Field(default=256, ge=1)
    rate: float = Field(default=5e-3, gt=0.0)
    held_out: float = Field(default=0.2, gt=0.0, lt=1.0)
    most_error: float = Field(default=0.05, ge=0.0)


@register_method(NAME, ReluMlpOptions)
class ReluMlp:
    """The method, see the module's text."""

    changes_function = True

    def __init__(self, options: ReluMlpOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """What the first linear layer of each MLP reads."""
        places = [find_mlp(graph, found) for found in find_gelu_linears(graph)]
        return list(dict.fromkeys(place.source for place in places if isinstance(place, MlpPlace)))

    def sampled(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The same."""
        return self.watched(graph)

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Replace each GELU in front of a layer whose input gets an affine format."""
        notes = []
        for found in find_gelu_linears(graph):
            spec = spec_at(recipe, "linear.input", found.linear)
            if spec is None:
                continue
            place = find_mlp(graph, found)
            if spec.symmetric:
                place = "its input's format is symmetric, which would leave half of the codes unused"
            if isinstance(place, str):
                notes.append(MethodNote(NAME, found.layer, False, place))
                continue
            before, after = self._replace(graph, place, found.layer, seen, recipe.seed)
            text = f"held-out error {before:.3g} → {after:.3g} of the output's variance"
            applied = after <= self._options.most_error
            if math.isinf(after):
                text = "too few rows to train on, or its output never changes: keeps GELU"
            elif not applied:
                text += f", above {self._options.most_error:g}: keeps GELU"
            notes.append(MethodNote(NAME, found.layer, applied, text))
        graph.graph.lint()
        graph.recompile()
        return notes

    def _replace(
        self, graph: fx.GraphModule, place: MlpPlace, layer: str, seen: Statistics, seed: int
    ) -> tuple[float, float]:
        """Train, change the graph where the error is small enough, and return the errors."""
        old = place.weights(graph)
        gelu = GeluMlp(old, str(place.gelu.kwargs.get("approximate", "none")))

        @cache
        def trained() -> tuple[MlpWeights, Tensor]:
            return train_relu_mlp(gelu, seen.samples[place.source], self._options, seed)

        before, after = seen.once(f"{NAME}/{layer}/errors", lambda: trained()[1]).tolist()
        if after <= self._options.most_error:
            new = {
                key: seen.once(f"{NAME}/{layer}/{key}", lambda k=key: trained()[0][k])  # type: ignore[misc]
                for key in old
            }
            place.set_weights(graph, new)
            place.gelu.target, place.gelu.kwargs = aten.relu.default, {}
            remember_original(graph, place.output, place.source, gelu)
        return before, after


def train_relu_mlp(
    gelu: GeluMlp, rows: Tensor, options: ReluMlpOptions, seed: int
) -> tuple[MlpWeights, Tensor]:
    """Fit an MLP with ReLU to one with GELU.

    Args:
        gelu: y.
        rows: x [n, I]; the last ones judge.
        options: how.
        seed: of the draws.

    Returns:
        The weights, and the held-out error [2] of ReLU with the old weights and with the new ones, float64;
        infinite where there are too few rows.
    """
    held = max(1, round(options.held_out * len(rows)))
    train, judges = rows[:-held], rows[-held:]
    start = {key: value.clone() for key, value in gelu.weights.items()}
    if len(train) < 2 or held < 2:
        return start, torch.full((2,), math.inf, dtype=torch.float64)
    wanted = gelu(judges)
    variance = float((wanted - wanted.mean(dim=0)).square().mean())

    @torch.no_grad()
    def error(weights: MlpWeights) -> float:
        wrong = float((gelu.run(weights, judges, torch.relu) - wanted).square().mean())
        return wrong / variance if variance else math.inf

    before = error(start)
    if "bias2" in start:
        start["bias2"] += (gelu(train) - gelu.run(start, train, torch.relu)).mean(dim=0)
    best, best_error = start, error(start)
    learned = {key: value.clone().requires_grad_() for key, value in start.items()}
    groups = [
        {
            "params": [learned[key]],
            "lr": options.rate * float(start[f"weight{key[-1]}"].square().mean().sqrt()),
        }
        for key in learned
    ]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, options.iterations))
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, options.iterations + 1):
        first, second = train[torch.randint(len(train), (2, options.batch), generator=generator)]
        x = first + torch.rand(options.batch, 1, generator=generator) * (second - first)
        loss = (gelu.run(learned, x, torch.relu) - gelu(x)).square().mean() / max(variance, 1e-30)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % max(1, options.iterations // _LOOKS) == 0 or step == options.iterations:
            now = error(learned)
            if now < best_error:
                best, best_error = {k: v.detach().clone() for k, v in learned.items()}, now
    return best, torch.tensor([before, best_error], dtype=torch.float64)
