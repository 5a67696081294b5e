from pathlib import Path

import pytest
import torch
from torch.nn import functional

from quant.data.batches import batches
from quant.data.config import SourceConfig
from quant.data.sources import open_source
from quant.models.cifar_resnet import PaddedShortcut, resnet20, resnet56
from quant.models.config import ModelConfig
from quant.models.load import load_model


def test_parameter_counts_are_those_of_the_paper() -> None:
    # Table 6 of He et al. gives 0.27 M and 0.85 M.
    assert round(sum(p.numel() for p in resnet20().parameters()) / 1e6, 2) == 0.27
    assert round(sum(p.numel() for p in resnet56().parameters()) / 1e6, 2) == 0.85


@pytest.mark.parametrize("shape", [(2, 16, 32, 32), (1, 4, 7, 9)])
def test_shortcut_equals_a_strided_convolution_with_fixed_weights(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    channels = shape[1]
    # A 1×1 convolution whose output channel c + C/2 copies input channel c, and whose others give zero.
    kernel = torch.zeros(2 * channels, channels, 1, 1)
    for c in range(channels):
        kernel[c + channels // 2, c] = 1
    assert torch.equal(PaddedShortcut(channels)(x), functional.conv2d(x, kernel, stride=2))


def test_it_exports_with_a_free_batch_size() -> None:
    model = resnet20().eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (images[:2],), dynamic_shapes=({0: batch},))
    # The same float32 operators; only their fusion may differ.
    torch.testing.assert_close(program.module()(images), model(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_trained_weights_recognise_cifar10(data_dir: Path, name: str) -> None:
    weights = data_dir / f"cifar10/{name}.safetensors"
    loaded = load_model(ModelConfig(name=f"quant.models.cifar_resnet:{name}", weights=weights))
    archive = data_dir / "cifar10/validation.npz"
    source = open_source(SourceConfig(kind="npz", path=archive, limit=100), loaded.num_classes)
    (batch,) = batches(source, loaded.preprocessing, batch_size=100)
    with torch.inference_mode():
        correct = (loaded.model(batch.images).argmax(dim=1) == batch.labels).sum().item()
    # 83.5 % (ResNet-20) and 84.5 % (ResNet-56) on the first 1,000; 70 is three standard errors below.
    assert correct >= 70
