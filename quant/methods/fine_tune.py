"""Short quantization-aware fine-tuning: train the whole quantized model to answer as the float model does.

No labels are needed. With z the logits of the float model and ẑ those of the quantized one, at temperature T,

    L = T² · KL(softmax(z / T) ‖ softmax(ẑ / T))

Weights, activation scales and biases are trained through straight-through gradients from what calibration and
the methods before found (see :mod:`quant.tuning.trainable`), with Adam and a cosine schedule. Images are
mirrored at random. One part of them is held out: the state with the least loss on them after any epoch is
kept, which is the start itself where training did not help.

Source: knowledge distillation (Hinton et al. 2015, section 2) with straight-through gradients (Bengio et al.
2013) and learned step sizes (LSQ, Esser et al. 2020).
"""

import torch
from pydantic import Field
from torch import Tensor, fx
from torch.func import functional_call
from torch.nn import functional

from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.tuning.model import Tuning
from quant.tuning.trainable import Trainable

__all__ = ["FineTune", "FineTuneOptions"]

NAME = "fine_tune"


class FineTuneOptions(MethodOptions):
    """Options.

    Attributes:
        epochs: passes over the tuning images.
        batch: images per step.
        temperature: T.
        weight_rate: learning rate of weights, in codes.
        scale_rate: learning rate of the logarithm of activation scales.
        bias_rate: learning rate of biases.
        held_out: share of the images that judge.
        mirror: mirror each image with probability 1/2.
    """

    epochs: int = Field(default=4, ge=1)
    batch: int = Field(default=16, ge=1)
    temperature: float = Field(default=2.0, gt=0.0)
    weight_rate: float = Field(default=2e-3, ge=0.0)
    scale_rate: float = Field(default=1e-3, ge=0.0)
    bias_rate: float = Field(default=1e-4, ge=0.0)
    held_out: float = Field(default=0.2, gt=0.0, lt=1.0)
    mirror: bool = True


@register_method(NAME, FineTuneOptions)
class FineTune:
    """The method, see the module's text."""

    def __init__(self, options: FineTuneOptions) -> None:
        self._options = options

    def tune_model(self, tuning: Tuning) -> list[MethodNote]:
        """Train, and keep the best state."""
        options = self._options
        images = torch.cat(tuning.batches)
        generator = torch.Generator().manual_seed(tuning.seed)
        order = torch.randperm(len(images), generator=generator)
        held = max(1, round(options.held_out * len(images)))
        judges, train = images[order[:held]], images[order[held:]]
        if not len(train):
            return [MethodNote(NAME, "model", False, f"{len(images)} tuning images are too few to train on")]
        learned = Trainable(tuning, tuning.graph)
        optimizer = torch.optim.Adam(
            learned.groups(options.weight_rate, options.scale_rate, options.bias_rate)
        )
        steps = -(-len(train) // options.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * steps)
        first = best = self._judge(tuning, {}, judges)
        kept = 0
        for epoch in range(1, options.epochs + 1):
            shuffled = train[torch.randperm(len(train), generator=generator)]
            for batch in torch.split(shuffled, options.batch):
                batch = self._mirrored(batch, generator)
                loss = self._loss(_logits(tuning.graph, learned.values(), batch), tuning.reference, batch)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
            now = self._judge(tuning, learned.values(), judges)
            if now < best:
                best, kept = now, epoch
                best_state = learned.state()
            tuning.progress("fine-tuning", epoch, options.epochs)
        if not kept:
            text = f"no epoch had a smaller held-out loss than {first:.4g}"
            return [MethodNote(NAME, "model", False, text)]
        learned.keep(best_state)
        text = f"held-out loss {first:.4g} → {best:.4g} after epoch {kept} of {options.epochs}"
        return [MethodNote(NAME, "model", True, text)]

    def _loss(self, found: Tensor, reference: fx.GraphModule, images: Tensor) -> Tensor:
        """L, the mean over the images."""
        temperature = self._options.temperature
        with torch.no_grad():
            wanted = (reference(images) / temperature).log_softmax(-1)
        divergence = functional.kl_div(
            (found / temperature).log_softmax(-1), wanted, reduction="batchmean", log_target=True
        )
        return temperature**2 * divergence

    @torch.no_grad()
    def _judge(self, tuning: Tuning, values: dict[str, Tensor], images: Tensor) -> float:
        total = 0.0
        for batch in torch.split(images, self._options.batch):
            total += len(batch) * float(
                self._loss(_logits(tuning.graph, values, batch), tuning.reference, batch)
            )
        return total / len(images)

    def _mirrored(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if not self._options.mirror:
            return images
        chosen = torch.rand(len(images), generator=generator) < 0.5
        return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def _logits(graph: fx.GraphModule, values: dict[str, Tensor], images: Tensor) -> Tensor:
    logits: Tensor = functional_call(graph, values, (images,))
    return logits
