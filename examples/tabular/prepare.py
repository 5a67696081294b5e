"""Make what `examples/tabular.yaml` reads: two archives of rows, and trained weights.

    python -m examples.tabular.prepare --out runs/tabular_data

The table is scikit-learn's breast cancer data: 569 rows of 30 measurements, two classes. Half a minute.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch.nn import functional

from examples.tabular.model import TableTransformer, build
from quant.files import replace_bytes

EPOCHS, BATCH, RATE = 40, 32, 2e-3


def split(seed: int = 0) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training and validation rows [N, 30, 1], standardised by the training rows, with their labels [N]."""
    rows, labels = load_breast_cancer(return_X_y=True)
    train, held, y_train, y_held = train_test_split(
        rows, labels, test_size=0.4, stratify=labels, random_state=seed
    )
    mean, std = train.mean(axis=0), train.std(axis=0)
    train, held = (((part - mean) / std)[..., None].astype(np.float32) for part in (train, held))
    return (train, y_train), (held, y_held)


def train(rows: np.ndarray, labels: np.ndarray, epochs: int = EPOCHS, seed: int = 0) -> TableTransformer:
    """Train with AdamW; the weights and the order of the rows follow from the seed."""
    torch.manual_seed(seed)
    model = build(rows.shape[1])
    x, y = torch.from_numpy(rows), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05)
    steps = epochs * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    for _ in range(epochs):
        for part in torch.split(torch.randperm(len(x)), BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[part]), y[part], label_smoothing=0.1).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def archive(rows: np.ndarray, labels: np.ndarray) -> bytes:
    """What the source ``arrays`` reads: the inputs and, for the accuracy, the labels."""
    stream = io.BytesIO()
    np.savez(stream, inputs=rows, labels=labels)
    return stream.getvalue()


def main() -> None:
    """Write the files, and print the accuracy on the validation rows."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--out", type=Path, default=Path("runs/tabular_data"))
    options = arguments.parse_args()
    torch.set_num_threads(1)  # one order of summation, so that the weights are the same everywhere
    (rows, labels), (held, held_labels) = split()
    model = train(rows, labels)
    options.out.mkdir(parents=True, exist_ok=True)
    replace_bytes(options.out / "calibration.npz", archive(rows, labels))
    replace_bytes(options.out / "validation.npz", archive(held, held_labels))
    replace_bytes(options.out / "model.safetensors", safetensors.torch.save(model.state_dict()))
    with torch.inference_mode():
        right = int((model(torch.from_numpy(held)).argmax(dim=1).numpy() == held_labels).sum())
    print(f"{options.out}: {right} of {len(held)} validation rows right")


if __name__ == "__main__":
    main()
