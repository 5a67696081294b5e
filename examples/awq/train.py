"""Train the perceptron of the AWQ example and store it beside this file.

Run from the repository root: `python -m examples.awq.train`. It takes less than a minute on one CPU core.
"""

import argparse
from pathlib import Path

import torch

from examples.digits.train import split, store, train
from quant.models.config import ModelConfig
from quant.models.load import load_model

WEIGHTS = Path(__file__).with_name("digits_mlp.safetensors")
MODEL = ModelConfig(name="examples.awq.model:digits_mlp")
EPOCHS = 60


def accuracy(weights: Path) -> tuple[int, int]:
    """Return how many validation images the stored model gets right, and of how many."""
    loaded = load_model(MODEL.model_copy(update={"weights": weights}))
    images, labels = split("validation", loaded.preprocessing)
    with torch.inference_mode():
        correct = int((loaded.model(images).argmax(dim=1) == labels).sum())
    return correct, len(labels)


def main() -> None:
    """Train, store, and print the accuracy on the validation split."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=WEIGHTS, help="where the weights go")
    arguments.add_argument("--epochs", type=int, default=EPOCHS)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()

    # One thread adds up in one order, so the weights do not depend on the number of cores.
    torch.set_num_threads(1)
    loaded = load_model(MODEL, seed=options.seed)
    images, labels = split("train", loaded.preprocessing)
    train(loaded.model, images, labels, options.epochs, options.seed)
    store(loaded.model, options.out)
    correct, total = accuracy(options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB")
    print(f"validation top-1: {correct}/{total} = {correct / total:.2%}")


if __name__ == "__main__":
    main()
