from pathlib import Path

import pytest
import yaml

from deploy.pipeline.config import BenchConfig, RunConfig, copied_config, load_config
from export.targets import TARGETS
from quant.errors import BadInput

ROOT = Path(__file__).resolve().parents[3]
LEAST = {
    "model": {"name": "resnet18"},
    "calibration": {"kind": "digits", "split": "calibration"},
    "validation": {"kind": "digits", "split": "validation"},
}


def written(folder: Path, **changes: object) -> Path:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(LEAST | changes))
    return path


def test_three_keys_are_enough(tmp_path: Path) -> None:
    config = load_config(written(tmp_path))
    assert (config.recipe, config.targets, config.bench) == (("int8",), ("ort-x86",), BenchConfig())


def test_one_recipe_or_several(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, recipe="int8_gelu_scale")).recipe == ("int8_gelu_scale",)
    assert load_config(written(tmp_path, recipe=["int8", "mine.yaml"])).recipe == (
        "int8",
        str(tmp_path / "mine.yaml"),
    )


def test_paths_are_relative_to_the_file_unless_they_name_their_own_start(tmp_path: Path) -> None:
    given = {"free": "a/w.safetensors", "root": "/a/w.safetensors", "home": "~/w.safetensors"}
    given["variable"] = "${OCTAVO_DATA}/w.safetensors"
    found = {
        name: str(load_config(written(tmp_path, model={"name": "resnet18", "weights": w})).model.weights)
        for name, w in given.items()
    }
    assert found == given | {"free": str(tmp_path / "a/w.safetensors")}


def test_a_copy_in_another_folder_means_the_same(tmp_path: Path) -> None:
    (tmp_path / "deep" / "run").mkdir(parents=True)
    path = written(
        tmp_path,
        model={"name": "resnet18", "weights": "w.safetensors", "kwargs": {"num_classes": 3}},
        calibration={"kind": "csv", "path": "in/labels.csv", "root": "in"},
        validation={"kind": "folder", "path": "${OCTAVO_DATA}/val", "classes": "classes.txt"},
        recipe=["int8", "recipes/mine.yaml"],
    )
    config = load_config(path)
    copy = tmp_path / "deep" / "run" / "config.yaml"
    copy.write_text(copied_config(path, copy.parent))
    assert str(tmp_path) not in copy.read_text()
    again = load_config(copy)

    def places(config: RunConfig) -> list[Path]:
        paths = [config.model.weights, config.calibration.path, config.calibration.root]
        paths += [config.validation.path, config.validation.classes, Path(config.recipe[1])]
        return [path.resolve() for path in paths if path is not None]

    assert places(again) == places(config)
    assert len(places(again)) == 6
    assert again.model.kwargs == {"num_classes": 3}
    assert copied_config(copy, copy.parent) == copy.read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modle": {}}, ["unknown key 'modle'", "did you mean 'model'?"]),
        ({"bench": {"call": 3}}, ["run.yaml, bench", "did you mean 'calls'?"]),
        ({"calibration": {"knid": "digits"}}, ["run.yaml, calibration", "did you mean 'kind'?"]),
        ({"targets": ["tensorrrt"]}, ["targets", "'tensorrrt'", *TARGETS]),
        ({"targets": ["ort-x86", "ort-x86"]}, ["named twice"]),
        ({"targets": []}, ["targets"]),
        ({"saturation_guard": "maybe"}, ["saturation_guard", "'seven_bits'"]),
        ({"export": {"opset": 17}}, ["run.yaml, export", "opset 17", "20"]),
        ({"bench": {"batch_sizes": [0]}}, ["batch_sizes.0", "greater than 0"]),
        ({"model": {"name": "a:b", "pretrained": True}}, ["run.yaml, model", "timm"]),
        ({"calibration_batch": 0}, ["calibration_batch"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, changes: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(BadInput) as caught:
        load_config(written(tmp_path, **changes))
    assert "\n" not in str(caught.value)
    assert "run.yaml" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- a", "", "\x00"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"run\.yaml"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize("name", ["digits", "vit_tiny", "resnet_cifar"])
def test_the_examples_are_valid_and_serve_every_target_but_the_oldest(name: str) -> None:
    config = load_config(ROOT / "examples" / f"{name}.yaml")
    assert set(config.targets) == set(TARGETS) - {"tensorrt8"}
