"""Train the ResNet-18 of this example.

    python -m examples.vit_cnn_energy.train_resnet18 --data DATA --out runs/resnet18.safetensors

DATA is CIFAR-10's binary archive, or the folder that it unpacks to: trained on the 50,000 training images,
judged on the 10,000 test images. Or it is a folder with ``validation.npz`` and ``calibration.npz``, such as
``../shared/data/cifar10``: trained on the images of the first, judged on those of the second, so whoever
quantizes that model must not judge it on ``validation.npz``.

Without a time limit the same seed gives the same weights. With ``--minutes`` the learning rate falls by the
clock where that runs out first, and how far training gets depends on the machine.
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional

from examples.digits.train import rate_factor, store
from quant.data.batches import batches
from quant.data.config import SourceConfig
from quant.data.sources import open_source
from quant.errors import BadInput
from quant.models.config import ModelConfig
from quant.models.load import load_model
from quant.tuning.augment import random_views

__all__ = ["Schedule", "accuracy", "images_of", "sources_in", "train", "trained"]

FACTORY = "examples.vit_cnn_energy.resnet18:resnet18"
BATCH = 128
PEAK_RATE = 0.1
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
LEAST_AREA = 0.5
"""Of a random part of an image, which is enlarged to the full size."""


@dataclass(frozen=True)
class Schedule:
    """How long training lasts.

    Attributes:
        epochs: passes over the images.
        seconds: after which it ends in any case; None for no limit.
    """

    epochs: int
    seconds: float | None = None

    def share_of_time(self, start: float) -> float:
        """How much of it is over, from 0 to 1 and above; ``start`` is a time of :func:`time.monotonic`."""
        return 0.0 if self.seconds is None else (time.monotonic() - start) / self.seconds


def sources_in(data: Path) -> tuple[SourceConfig, SourceConfig]:
    """The images to train on, and those to judge on."""
    if (data / "validation.npz").is_file():
        return (
            SourceConfig(kind="npz", path=data / "validation.npz"),
            SourceConfig(kind="npz", path=data / "calibration.npz"),
        )
    return (
        SourceConfig(kind="cifar10", path=data, split="train"),
        SourceConfig(kind="cifar10", path=data, split="test"),
    )


def images_of(source: SourceConfig, model: ModelConfig) -> tuple[Tensor, Tensor]:
    """Images [N, 3, 32, 32], preprocessed for the model, and labels [N]."""
    opened = open_source(source)
    (whole,) = batches(opened, load_model(model).preprocessing, batch_size=len(opened))
    return whole.images, whole.labels


def train(model: nn.Module, images: Tensor, labels: Tensor, schedule: Schedule, seed: int) -> int:
    """Train in place by stochastic gradient descent with Nesterov's momentum; the model is left training.

    The rate rises in a line and falls along half a cosine. Order and augmentation follow from the seed.

    Returns:
        Steps done.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = schedule.epochs * math.ceil(len(images) / BATCH)
    optimizer = torch.optim.SGD(
        model.parameters(), PEAK_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    start, done = time.monotonic(), 0
    model.train()
    with Progress() as progress:
        task = progress.add_task("training", total=1.0)
        for _ in range(schedule.epochs):
            for rows in torch.split(torch.randperm(len(images), generator=generator), BATCH):
                passed = max(done / steps, schedule.share_of_time(start))
                if passed >= 1:
                    return done
                for group in optimizer.param_groups:
                    group["lr"] = PEAK_RATE * rate_factor(passed + 1 / steps)
                logits = model(random_views(images[rows], generator, mirror=True, least_area=LEAST_AREA))
                loss = functional.cross_entropy(logits, labels[rows])
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                done += 1
                progress.update(task, completed=passed, description=f"loss {loss.item():.3f}")
    return done


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """How many images the model gets right."""
    pairs = zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True)
    return sum(int((model(some).argmax(dim=1) == right).sum()) for some, right in pairs)


def main() -> None:
    """Train, store, and print the accuracy of what was stored."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--minutes", type=float, help="end training after this time")
    parser.add_argument("--threads", type=int, default=1, help="weights depend on it in their last digits")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    try:
        print(trained(options))
    except BadInput as error:
        parser.error(str(error))


def trained(options: argparse.Namespace) -> str:
    """Train and store as the command line says, and tell of it in two lines."""
    config = ModelConfig(name=FACTORY, kwargs={"width": options.width})
    learned, judged = sources_in(options.data)
    images, labels = images_of(learned, config)
    model = load_model(config, options.seed).model
    seconds = None if options.minutes is None else 60 * options.minutes
    steps = train(model, images, labels, Schedule(options.epochs, seconds), options.seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    store(model, options.out)

    stored = load_model(config.model_copy(update={"weights": options.out})).model
    images, labels = images_of(judged, config)
    right = accuracy(stored, images, labels)
    size = options.out.stat().st_size / 1e6
    return (
        f"{options.out}: width {options.width}, {size:.2f} MB, {steps} steps\n"
        f"top-1 on {len(labels)} images of {judged.path}: {right} right, {right / len(labels):.2%}"
    )


if __name__ == "__main__":
    main()
