"""Train the small ViT of the digits example and store it beside this file.

Run from the repository root: `python -m examples.digits.train`. It takes about two minutes on one CPU core.
"""

import argparse
import math
import os
from pathlib import Path

import safetensors.torch
import torch
from rich.progress import Progress
from torch import nn
from torch.nn import functional

from quant.data.batches import batches
from quant.data.config import SourceConfig
from quant.data.preprocessing import Preprocessing
from quant.data.sources import open_source
from quant.models.config import ModelConfig
from quant.models.load import load_model

WEIGHTS = Path(__file__).with_name("vit_digits.safetensors")
MODEL = ModelConfig(
    name="vit_tiny_patch16_224",
    kwargs={
        "img_size": 32,
        "patch_size": 8,
        "in_chans": 1,
        "embed_dim": 96,
        "depth": 4,
        "num_heads": 3,
        "num_classes": 10,
    },
    preprocessing={"crop_pct": 1.0},
)

BATCH = 64
EPOCHS = 70
PEAK_RATE = 2e-3
WARM_UP = 0.1  # share of the steps
WEIGHT_DECAY = 0.05
LABEL_SMOOTHING = 0.1


def split(name: str, preprocessing: Preprocessing) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images [N, 1, 32, 32] and labels [N] of one split of the digits."""
    source = open_source(SourceConfig(kind="digits", split=name))
    (whole,) = batches(source, preprocessing, batch_size=len(source))
    return whole.images, whole.labels


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn, scale and shift each image of [N, 1, H, W] a little: ±12°, ±10 % and ±1/16 of its side."""
    count = len(images)

    def uniform(limit: float) -> torch.Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle, scale = uniform(math.radians(12)), 1 + uniform(0.1)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    # affine_grid counts the image's side as 2.
    matrix = torch.stack([cos, -sin, uniform(1 / 8), sin, cos, uniform(1 / 8)], dim=1).view(count, 2, 3)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def rate_factor(progress: float) -> float:
    """Return the learning rate over its peak: linear warm-up, then half a cosine (progress from 0 to 1)."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int, seed: int) -> None:
    """Train in place with AdamW; the order of the images and the augmentation follow from the seed."""
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * math.ceil(len(images) / BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor((step + 1) / steps))
    model.train()
    with Progress() as progress:
        task = progress.add_task("training", total=steps)
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(images), generator=generator), BATCH):
                logits = model(augment(images[rows], generator))
                loss = functional.cross_entropy(logits, labels[rows], label_smoothing=LABEL_SMOOTHING)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.update(task, advance=1, description=f"loss {loss.item():.3f}")
    model.eval()


def store(model: nn.Module, path: Path) -> None:
    """Write the weights as float16, which halves the file; they are read back as float32."""
    beside = path.with_name(f".{path.name}.partial")
    safetensors.torch.save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, beside)
    os.replace(beside, path)


def accuracy(weights: Path, model: ModelConfig = MODEL) -> tuple[int, int]:
    """Return how many validation images the stored model gets right, and of how many."""
    loaded = load_model(model.model_copy(update={"weights": weights}))
    images, labels = split("validation", loaded.preprocessing)
    with torch.inference_mode():
        correct = int((loaded.model(images).argmax(dim=1) == labels).sum())
    return correct, len(labels)


def command(words: str | None, model: ModelConfig, weights: Path, epochs: int) -> None:
    """Train a model of digits, store it, and print its accuracy on the validation split.

    Args:
        words: what the command says of itself.
        model: what is trained, from the weights that a seed gives.
        weights: where they go, unless the command says otherwise.
        epochs: how often every image is seen, unless the command says otherwise.
    """
    arguments = argparse.ArgumentParser(description=words)
    arguments.add_argument("--out", type=Path, default=weights, help="where the weights go")
    arguments.add_argument("--epochs", type=int, default=epochs)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()

    # One thread adds up in one order, so the weights do not depend on the number of cores.
    torch.set_num_threads(1)
    loaded = load_model(model, seed=options.seed)
    images, labels = split("train", loaded.preprocessing)
    train(loaded.model, images, labels, options.epochs, options.seed)
    store(loaded.model, options.out)
    correct, total = accuracy(options.out, model)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB")
    print(f"validation top-1: {correct}/{total} = {correct / total:.2%}")


if __name__ == "__main__":
    command(__doc__, MODEL, WEIGHTS, EPOCHS)
