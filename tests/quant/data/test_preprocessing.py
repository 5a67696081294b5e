import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from quant.data.preprocessing import Preprocessing
from quant.errors import BadInput

EXAMPLE = Preprocessing((3, 24, 32), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bilinear", 0.875, "squash")


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_vit_tiny_is_preprocessed_as_its_authors_did() -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=1)
    assert Preprocessing.from_timm(model) == Preprocessing(
        (3, 224, 224), (0.5,) * 3, (0.5,) * 3, "bicubic", 0.9, "center"
    )


def test_transform_equals_resize_crop_and_normalise_by_hand() -> None:
    preprocessing = Preprocessing((3, 48, 48), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), "bicubic", 0.9)
    image = photo(120, 90)
    # 48 / 0.9 rounds down to 53 on the shorter side; the crop takes the middle 48 pixels.
    resized = image.resize((int(53 * 120 / 90), 53), Image.Resampling.BICUBIC)
    left, top = round((resized.width - 48) / 2), round((resized.height - 48) / 2)
    pixels = np.asarray(resized.crop((left, top, left + 48, top + 48)), dtype=np.float64) / 255
    expected = ((pixels - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.4]).transpose(2, 0, 1)
    result = preprocessing.transform()(image)
    assert result.dtype == torch.float32
    # float32 arithmetic on values of about 3.
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)


def test_an_image_of_the_right_size_is_only_normalised() -> None:
    image = photo(32, 32)
    result = Preprocessing((3, 32, 32), (0.0,) * 3, (1.0,) * 3).transform()(image)
    np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), np.asarray(image, dtype=np.float32) / 255)


def test_grey_models_get_one_channel() -> None:
    grey = np.random.default_rng(2).integers(0, 256, (8, 8), dtype=np.uint8)
    result = Preprocessing((1, 8, 8), (0.5,), (0.25,)).transform()(Image.fromarray(grey).convert("RGB"))
    assert result.shape == (1, 8, 8)
    np.testing.assert_allclose(result[0].numpy(), (grey / 255 - 0.5) / 0.25, atol=1e-6)


def test_size_and_channels_follow_the_arguments_the_model_was_built_with() -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=(32, 48), patch_size=8, in_chans=1)
    preprocessing = Preprocessing.from_timm(model)
    assert preprocessing.input_size == (1, 32, 48)
    assert (preprocessing.mean, preprocessing.std) == ((0.5,), (0.5,))
    assert model(preprocessing.transform()(photo(60, 60))[None]).shape == (1, 1000)


def test_mean_and_std_of_a_grey_model_are_averages() -> None:
    preprocessing = Preprocessing.from_timm(timm.create_model("resnet18", in_chans=1))
    assert preprocessing.input_size == (1, 224, 224)
    assert preprocessing.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
    assert preprocessing.std == pytest.approx([(0.229 + 0.224 + 0.225) / 3])


def test_metadata_round_trip_is_exact_and_plain_json() -> None:
    text = EXAMPLE.to_metadata()
    assert json.loads(text)["input_size"] == [3, 24, 32]
    assert Preprocessing.from_metadata(text) == EXAMPLE


def test_an_override_changes_only_what_it_names() -> None:
    changed = Preprocessing.from_mapping({"crop_pct": 1, "mean": [0, 0, 0]}, base=EXAMPLE)
    assert changed == Preprocessing((3, 24, 32), (0.0,) * 3, (0.5, 0.6, 0.7), "bilinear", 1.0, "squash")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "a mapping is needed, not list"),
        ("{}", "input_size, mean, std missing"),
        ('{"size": 3}', "unknown size; allowed: input_size, mean"),
        ('{"input_size": 224, "mean": [0], "std": [1]}', "input_size is 224, which has the wrong type"),
        ('{"input_size": [3, 8.5, 8], "mean": [0, 0, 0], "std": [1, 1, 1]}', "input_size .* wrong type"),
        ('{"input_size": [3, 8, 8], "mean": ["a", 0, 0], "std": [1, 1, 1]}', "mean .* wrong type"),
        ('{"input_size": [2, 8, 8], "mean": [0, 0], "std": [1, 1]}', r"input_size is \(2, 8, 8\); allowed"),
        ('{"input_size": [8, 8], "mean": [0], "std": [1]}', r"input_size is \(8, 8\); allowed"),
        ('{"input_size": [3, 0, 8], "mean": [0, 0, 0], "std": [1, 1, 1]}', r"input_size is \(3, 0, 8\)"),
        ('{"input_size": [3, 8, 8], "mean": [0], "std": [1, 1, 1]}', "mean .*allowed: 3 finite values"),
        ('{"input_size": [3, 8, 8], "mean": [NaN, 0, 0], "std": [1, 1, 1]}', "mean .*3 finite"),
        ('{"input_size": [1, 8, 8], "mean": [0], "std": [0]}', "std .*1 positive values"),
        (
            '{"input_size": [1, 8, 8], "mean": [0], "std": [1], "crop_pct": 0}',
            "crop_pct is 0.0; allowed: above 0",
        ),
        ('{"input_size": [1, 8, 8], "mean": [0], "std": [1], "crop_mode": "x"}', "allowed: center, squash"),
        (
            '{"input_size": [1, 8, 8], "mean": [0], "std": [1], "interpolation": "x"}',
            "allowed: nearest, bilin",
        ),
    ],
)
def test_wrong_settings_are_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Preprocessing.from_metadata(text)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_every_allowed_choice_works(interpolation: str, crop_mode: str) -> None:
    preprocessing = Preprocessing((3, 16, 24), (0.5,) * 3, (0.5,) * 3, interpolation, 0.9, crop_mode)
    assert preprocessing.transform()(photo(40, 30)).shape == (3, 16, 24)


def test_a_model_without_timm_settings_gets_timm_defaults_for_them() -> None:
    class Bare(nn.Module):
        pretrained_cfg = {"input_size": (3, 64, 64)}  # noqa: RUF012

    assert Preprocessing.from_timm(Bare()).input_size == (3, 64, 64)
