from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from pydantic import ValidationError
from torch import nn

from quant.data.batches import batches
from quant.data.config import SourceConfig
from quant.data.sources import open_source
from quant.errors import BadInput
from quant.models.config import ModelConfig
from quant.models.load import load_model

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 5}
PREPROCESSING = {"input_size": [3, 4, 4], "mean": [0, 0, 0], "std": [1, 1, 1]}

FACTORIES = """
import torch
from torch import nn

calls = 3

def flat(width=5, half=False):
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.Dropout(0.5))
    return model.half() if half else model

def text():
    return "model"

def failing():
    raise RuntimeError("no such layer")
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "octavo_test_factories.py").write_text(FACTORIES)
    (tmp_path / "octavo_test_broken.py").write_text("import octavo_no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    return "octavo_test_factories"


def test_random_weights_follow_the_seed_and_leave_the_callers_state_alone() -> None:
    config = ModelConfig(name="vit_tiny_patch16_224", kwargs=SMALL)
    torch.manual_seed(1)
    first = load_model(config, seed=3).model.state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(2)
    second = load_model(config, seed=3).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], load_model(config, seed=4).model.state_dict()["head.weight"])
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))


def test_a_timm_model_comes_with_its_weights_classes_and_preprocessing(tmp_path: Path) -> None:
    config = ModelConfig(name="vit_tiny_patch16_224", kwargs=SMALL)
    state = load_model(config, seed=1).model.state_dict()
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(state, path)
    loaded = load_model(config.model_copy(update={"weights": path}), seed=2)
    assert all(torch.equal(state[name], value) for name, value in loaded.model.state_dict().items())
    assert not any(part.training for part in loaded.model.modules())
    assert (loaded.num_classes, loaded.name) == (5, "vit_tiny_patch16_224")
    assert loaded.preprocessing.input_size == (3, 32, 32)
    assert loaded.preprocessing.mean == (0.5, 0.5, 0.5)
    assert loaded.weights_sha256 is not None
    assert len(loaded.weights_sha256) == 64


def test_the_weights_path_reads_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FOLDER", str(tmp_path))
    config = ModelConfig(name="vit_tiny_patch16_224", kwargs=SMALL, weights=Path("${SOME_FOLDER}/w.pt"))
    torch.save(load_model(config.model_copy(update={"weights": None})).model.state_dict(), tmp_path / "w.pt")
    assert load_model(config).weights_sha256


def test_preprocessing_overrides_single_fields() -> None:
    config = ModelConfig(name="vit_tiny_patch16_224", kwargs=SMALL, preprocessing={"crop_pct": 1.0})
    preprocessing = load_model(config).preprocessing
    assert (preprocessing.crop_pct, preprocessing.std) == (1.0, (0.5, 0.5, 0.5))


def test_a_factory_is_called_with_its_arguments_and_becomes_float32(factories: str) -> None:
    config = ModelConfig(
        name=f"{factories}:flat", kwargs={"width": 7, "half": True}, preprocessing=PREPROCESSING
    )
    loaded = load_model(config)
    images = torch.ones(2, 3, 4, 4)
    assert loaded.model(images).shape == (2, 7)
    assert torch.equal(loaded.model(images), loaded.model(images))  # dropout is off
    assert loaded.num_classes is None
    assert loaded.preprocessing.input_size == (3, 4, 4)


def test_a_factory_without_preprocessing_is_refused(factories: str) -> None:
    with pytest.raises(BadInput, match="does not say how its input is preprocessed"):
        load_model(ModelConfig(name=f"{factories}:flat"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_tiny_patch16_225", "timm has no model .*did you mean vit_tiny_patch16_224"),
        ("qqqqqqqqqq", r"timm has no model 'qqqqqqqqqq'; timm\.list_models\(\)"),
        ("octavo_no_such_package:make", "'octavo_no_such_package' cannot be imported .* PYTHONPATH"),
        ("octavo_test_broken:make", "'octavo_test_broken' cannot be imported .*octavo_no_such_package"),
        (":make", "cannot be imported"),
        ("octavo_test_factories:", "'' does not exist in octavo_test_factories"),
        ("octavo_test_factories:absent", "'absent' does not exist in octavo_test_factories"),
        ("octavo_test_factories:calls", "'calls' is not callable in octavo_test_factories"),
        ("octavo_test_factories:text", r"returned str; a torch\.nn\.Module is needed"),
        ("octavo_test_factories:failing", "failed with kwargs {}: RuntimeError: no such layer"),
    ],
)
@pytest.mark.usefixtures("factories")
def test_wrong_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_model(ModelConfig(name=name, preprocessing=PREPROCESSING))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "vit_tiny_patch16_224", "kwargs": {"colour": 1}}, r"timm cannot build .*'colour'"),
        ({"name": "vit_tiny_patch16_224.nonsense"}, "timm cannot build .*nonsense"),
        ({"name": "octavo_test_factories:flat", "kwargs": {"colour": 1}}, "TypeError: .*'colour'"),
    ],
)
@pytest.mark.usefixtures("factories")
def test_wrong_arguments_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load_model(ModelConfig(**settings))


def test_weights_of_another_model_are_refused_by_file(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(BadInput, match=r"other\.pt: does not fit the model; .*lacks: cls_token, pos_embed"):
        load_model(ModelConfig(name="vit_tiny_patch16_224", kwargs=SMALL, weights=path))


def test_a_failing_download_says_to_give_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    with pytest.raises(
        BadInput, match=r"could not get .*Name or service not known.*give the file as weights"
    ):
        load_model(ModelConfig(name="vit_tiny_patch16_224", pretrained=True))


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "x", "pretrained": True, "weights": "w.pt"},
        {"name": "a.b:c", "pretrained": True},
        {"name": "x", "weight": "w.pt"},
        {},
    ],
)
def test_contradictory_or_unknown_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModelConfig.model_validate(settings)


def test_vit_tiny_recognises_photographs(data_dir: Path) -> None:
    weights = data_dir / "vit_tiny_patch16_224/model.safetensors"
    loaded = load_model(ModelConfig(name="vit_tiny_patch16_224", weights=weights))
    table = data_dir / "imagenet/validation/labels.csv"
    source = open_source(SourceConfig(kind="csv", path=table, limit=32), loaded.num_classes)
    (batch,) = batches(source, loaded.preprocessing, batch_size=32)
    with torch.inference_mode():
        correct = (loaded.model(batch.images).argmax(dim=1) == batch.labels).sum().item()
    # 81 % on all 344; 20 of 32 is almost three standard errors below that.
    assert correct >= 20
