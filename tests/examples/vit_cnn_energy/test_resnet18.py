from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from examples.vit_cnn_energy import train_resnet18 as script
from examples.vit_cnn_energy.resnet18 import resnet18
from quant.models.config import ModelConfig
from quant.models.load import load_model

TINY = ModelConfig(name=script.FACTORY, kwargs={"width": 4})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder like the one of CIFAR images: 140 to train on, so two steps an epoch, and 20 to judge on."""
    generator = np.random.default_rng(0)
    for name, count in (("validation", 140), ("calibration", 20)):
        labels = generator.integers(0, 10, count)
        images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8) // 2
        images += (12 * labels).astype(np.uint8)[:, None, None, None]
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
    return tmp_path


def test_the_network_is_resnet_18() -> None:
    """Table 1 of He et al.: 17 convolutions and a linear layer, besides 3 shortcuts of 1 × 1.

    torchvision has 11,689,512 parameters; the stem here is 3 × 3 instead of 7 × 7, and of 1,000 classes with
    512 weights and a bias each there are 10.
    """
    model = resnet18()
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(m.kernel_size == (3, 3) for m in convolutions) == 17
    assert sum(m.kernel_size == (1, 1) for m in convolutions) == 3
    assert sum(p.numel() for p in model.parameters()) == 11_689_512 - (7 * 7 - 3 * 3) * 3 * 64 - 990 * 513
    sizes = []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda _m, _i, y: sizes.append(tuple(y.shape[1:])))
    with torch.inference_mode():
        assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert sizes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_width_and_classes_scale_it() -> None:
    model = resnet18(num_classes=100, width=16)
    assert sum(p.numel() for p in model.parameters() if p.ndim == 4) == pytest.approx(
        11_164_352 / 16, rel=0.01
    )
    assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


def test_training_repeats_bit_for_bit_and_learns(data: Path) -> None:
    learned, _ = script.sources_in(data)
    images, labels = (rows[:64] for rows in script.images_of(learned, TINY))

    def trained(seed: int) -> dict[str, torch.Tensor]:
        model = load_model(TINY, seed).model
        before = functional.cross_entropy(model.train()(images), labels)
        assert script.train(model, images, labels, script.Schedule(epochs=4), seed) == 4
        assert functional.cross_entropy(model.train()(images), labels) < before
        return model.state_dict()

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["linear.weight"], other["linear.weight"])


def test_training_ends_when_its_time_is_over(data: Path) -> None:
    images, labels = script.images_of(script.sources_in(data)[0], TINY)
    model = load_model(TINY, 0).model
    assert script.train(model, images, labels, script.Schedule(epochs=10**6, seconds=0.5), 0) < 1000


def test_the_command_stores_weights_and_judges_them_on_images_it_did_not_train_on(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = data / "runs" / "weights.safetensors"
    arguments = ["train", "--data", str(data), "--out", str(out), "--width", "4", "--epochs", "1"]
    monkeypatch.setattr("sys.argv", arguments)
    script.main()
    said = capsys.readouterr().out
    assert "2 steps" in said
    model = load_model(TINY.model_copy(update={"weights": out})).model
    images, labels = script.images_of(script.sources_in(data)[1], TINY)
    assert (
        f"top-1 on 20 images of {data / 'calibration.npz'}: {script.accuracy(model, images, labels)} right"
        in said
    )
    assert [path.name for path in out.parent.iterdir()] == ["weights.safetensors"]


def test_data_that_is_none_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train", "--data", str(tmp_path / "no"), "--out", str(tmp_path / "x")])
    with pytest.raises(SystemExit, match="2"):
        script.main()
    assert "no: does not exist" in capsys.readouterr().err
