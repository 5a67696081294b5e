"""Short quantization-aware fine-tuning: train the whole quantized model to answer as the float model does.

No labels are needed. With z the logits of the float model and h_1 … h_n the outputs of its blocks, ẑ and ĥ
those of the quantized one, at temperature T,

    L = T² · KL(softmax(z / T) ‖ softmax(ẑ / T)) + λ / n · Σ d(ĥ_i, h_i)

with d the relative error in which every token counts the same (:mod:`quant.tuning.distance`).

Weights, scales, biases and LayerNorm's gains are trained through straight-through gradients from what
calibration and the methods before found (see :mod:`quant.tuning.trainable`), with Adam and a cosine schedule
behind a linear warm-up. Images are mirrored, cropped and patched with parts of each other at random; the
float model answers for what comes of it. One part of the images is held out: the last state is kept if its
divergence on them is less than the start's. (Choosing among epochs by so few images is choosing by chance.)

Source: knowledge distillation (Hinton et al. 2015, section 2), of inner values, too (FitNets, Romero et al.
2015, section 2.2), with straight-through gradients (Bengio et al. 2013) and learned step sizes (LSQ, Esser et
al. 2020).
"""

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, fx
from torch.func import functional_call
from torch.nn import functional

from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.tuning.augment import random_patches, random_views
from quant.tuning.blocks import blocks_of
from quant.tuning.checkpoint import identity
from quant.tuning.device import training_device, working_on
from quant.tuning.distance import relative_error
from quant.tuning.model import Tuning
from quant.tuning.taps import with_taps
from quant.tuning.trainable import Trainable
from quant.tuning.training import Training

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
        crop: least share of an image that is kept, enlarged to the full size; 1 keeps all.
        patches: probability that an image gets a rectangle of another one.
        features: λ, the weight of the blocks' outputs.
        warm_up: share of the steps over which the rates rise.
    """

    epochs: int = Field(default=4, ge=1)
    batch: int = Field(default=16, ge=1)
    temperature: float = Field(default=2.0, gt=0.0)
    weight_rate: float = Field(default=2e-3, ge=0.0)
    scale_rate: float = Field(default=1e-3, ge=0.0)
    bias_rate: float = Field(default=1e-4, ge=0.0)
    held_out: float = Field(default=0.125, gt=0.0, lt=1.0)
    mirror: bool = True
    crop: float = Field(default=0.5, gt=0.0, le=1.0)
    patches: float = Field(default=0.5, ge=0.0, le=1.0)
    features: float = Field(default=5.0, ge=0.0)
    warm_up: float = Field(default=0.05, ge=0.0, lt=1.0)


class _Pair(NamedTuple):
    """Both models, which return the outputs of their blocks beside their own."""

    quantized: fx.GraphModule
    reference: fx.GraphModule


@register_method(NAME, FineTuneOptions)
class FineTune:
    """The method, see the module's text."""

    def __init__(self, options: FineTuneOptions) -> None:
        self._options = options

    def tune_model(self, tuning: Tuning) -> list[MethodNote]:
        """Train, and keep what came of it where it is better than the start."""
        options = self._options
        images = torch.cat(tuning.batches)
        generator = torch.Generator().manual_seed(tuning.seed)
        order = torch.randperm(len(images), generator=generator)
        held = max(1, round(options.held_out * len(images)))
        judges, train = images[order[:held]], images[order[held:]]
        if not len(train):
            return [MethodNote(NAME, "model", False, f"{len(images)} tuning images are too few to train on")]
        device = training_device()
        with working_on(device, [tuning.graph, tuning.reference]):
            learned = Trainable(tuning, tuning.graph)
            first = self._judge(tuning, {}, judges.to(device))
            self._train(tuning, learned, train, generator, device)
            last = self._judge(tuning, learned.values(), judges.to(device))
            state = learned.state()
        text = f"held-out loss {first:.4g} → {last:.4g}"
        if not last < first:  # also where training diverged to NaN
            return [MethodNote(NAME, "model", False, f"{text}: left as it was")]
        learned.keep(state)
        return [MethodNote(NAME, "model", True, text)]

    def _train(
        self,
        tuning: Tuning,
        learned: Trainable,
        images: Tensor,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        options = self._options
        steps = options.epochs * -(-len(images) // options.batch)
        groups = learned.groups(options.weight_rate, options.scale_rate, options.bias_rate)
        training = Training(groups, steps, options.warm_up)
        pair = self._pair(tuning)
        key = identity(f"{options!r} {tuning.seed}", [*learned.values().values(), images])
        done = 0
        if (kept := tuning.checkpoint.load(key)) is not None:
            done = kept["epochs"]
            training.restore(kept["training"])
            generator.set_state(kept["generator"])
        for epoch in range(done + 1, options.epochs + 1):
            shuffled = images[torch.randperm(len(images), generator=generator)]
            for batch in torch.split(shuffled, options.batch):
                batch = random_views(batch, generator, options.mirror, options.crop)
                batch = random_patches(batch, generator, options.patches)
                training.step(self._loss(pair, learned.values(), batch.to(device)))
            state = {"epochs": epoch, "training": training.state(), "generator": generator.get_state()}
            tuning.checkpoint.save(key, state)
            tuning.progress("fine-tuning", epoch, options.epochs)

    def _pair(self, tuning: Tuning) -> _Pair:
        names: set[str] = set()
        if self._options.features:
            names = {segment.end.name for segment in blocks_of(tuning)}
        return _Pair(with_taps(tuning.graph, names), with_taps(tuning.reference, names))

    def _loss(self, pair: _Pair, values: dict[str, Tensor], images: Tensor) -> Tensor:
        """L, the mean over the images."""
        with torch.no_grad():
            wanted, blocks = pair.reference(images)
        found, found_blocks = functional_call(pair.quantized, values, (images,))
        loss = self._divergence(found, wanted)
        for now, block in zip(found_blocks, blocks, strict=True):
            loss = loss + self._options.features / len(blocks) * relative_error(now, block)
        return loss

    def _divergence(self, found: Tensor, wanted: Tensor) -> Tensor:
        """T² · KL, the mean over the images."""
        temperature = self._options.temperature
        divergence = functional.kl_div(
            (found / temperature).log_softmax(-1),
            (wanted / temperature).log_softmax(-1),
            reduction="batchmean",
            log_target=True,
        )
        return temperature**2 * divergence

    @torch.no_grad()
    def _judge(self, tuning: Tuning, values: dict[str, Tensor], images: Tensor) -> float:
        total = 0.0
        for batch in torch.split(images, self._options.batch):
            found = functional_call(tuning.graph, values, (batch,))
            total += len(batch) * float(self._divergence(found, tuning.reference(batch)))
        return total / len(images)
