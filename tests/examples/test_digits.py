import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from examples.digits import train as digits
from quant.models.load import load_model


def test_the_stored_model_is_small_and_reads_digits_it_never_saw() -> None:
    assert digits.WEIGHTS.stat().st_size <= 1_000_000
    correct, total = digits.accuracy(digits.WEIGHTS)
    assert total == 360
    assert correct / total >= 0.98


def test_training_repeats_bit_for_bit_and_learns(tmp_path: Path) -> None:
    loaded = load_model(digits.MODEL, seed=0)
    images, labels = (rows[:128] for rows in digits.split("train", loaded.preprocessing))

    def trained(seed: int) -> dict[str, torch.Tensor]:
        model = load_model(digits.MODEL, seed=seed).model
        digits.train(model, images, labels, epochs=2, seed=seed)
        assert not model.training
        digits.store(model, tmp_path / f"{seed}.safetensors")
        with torch.inference_mode():
            after = functional.cross_entropy(model(images), labels)
            before = functional.cross_entropy(load_model(digits.MODEL, seed=seed).model(images), labels)
        assert after < before
        return model.state_dict()

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0.safetensors", "1.safetensors"]


def test_augmentation_moves_the_ink_only_a_little() -> None:
    images = torch.zeros(200, 1, 32, 32)
    images[:, :, 12:20, 12:20] = 1
    moved = digits.augment(images, torch.Generator().manual_seed(0))
    rows = (moved.sum(dim=(1, 3)) * (torch.arange(32) + 0.5)).sum(dim=1) / moved.sum(dim=(1, 2, 3)) - 16
    # The ink's centre is the image's, so it moves by the shift alone: at most 2 of 32 pixels before scaling,
    # 2 / 0.9 × (cos 12° + sin 12°) after it.
    assert 1 < rows.abs().max() <= 2 / 0.9 * (math.cos(math.radians(12)) + math.sin(math.radians(12)))
    assert moved.sum(dim=(1, 2, 3)) == pytest.approx(64, rel=0.3)


def test_the_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    assert [digits.rate_factor(p) for p in (0.05, 0.1, 0.55, 1.0)] == pytest.approx([0.5, 1.0, 0.5, 0.0])
