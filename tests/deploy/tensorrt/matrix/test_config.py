"""A matrix as people write it."""

from dataclasses import fields
from pathlib import Path

import pytest

from deploy.tensorrt.build import EngineSettings
from deploy.tensorrt.matrix.cells import cells_of
from deploy.tensorrt.matrix.config import MatrixConfig, Profile, load_matrix
from quant.errors import BadInput


def load(folder: Path, text: str) -> MatrixConfig:
    path = folder / "builds.yaml"
    path.write_text(text)
    return load_matrix(path)


def test_a_profile_has_the_settings_of_an_engine_with_the_same_defaults() -> None:
    assert Profile().settings == EngineSettings()
    assert list(Profile.model_fields) == [field.name for field in fields(EngineSettings)]


def test_paths_are_relative_to_the_file_or_begin_with_a_variable_or_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "/else/where")
    monkeypatch.setenv("HOME", "/home/me")
    config = load(tmp_path, "models: {a: runs/a, b: '${WHERE}/b.onnx', c: ~/c, d: /d.onnx}")
    assert [str(path) for path in config.models.values()] == [
        f"{tmp_path}/runs/a",
        "/else/where/b.onnx",
        "/home/me/c",
        "/d.onnx",
    ]
    with pytest.raises(BadInput, match="the environment variable NOWHERE is not set"):
        load(tmp_path, "models: {a: '${NOWHERE}/a'}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: {}", "models: .*at least 1"),
        ("[1]", "must be a mapping with the keys library, models"),
        ("models: {a: m.onnx}\nprofile: {}", r"unknown key 'profile' \(did you mean 'profiles'\?\)"),
        (
            "models: {a: m.onnx}\nprofiles: {x: {optimisation_level: 5}}",
            r"unknown key 'profiles.x.optimisation_level' \(did you mean 'optimization_level'\?\)",
        ),
        (
            "models: {a: m.onnx}\nprofiles: {x: {optimization_level: 6}}",
            "profiles.x: optimization_level is 0 to",
        ),
        (
            "models: {a: m.onnx}\nprofiles: {x: {batches: [4, 1, 8]}}",
            "profiles.x: batches are fewest ≤ usual",
        ),
        ("models: {a: m.onnx}\nprofiles: {x: {batches: [1, 8]}}", "profiles.x.batches"),
        ("models: {a: m.onnx}\nprofiles: {x: {workspace_mib: lots}}", "profiles.x.workspace_mib: .*integer"),
        ("models: {../a: m.onnx}", "'../a' becomes a folder"),
        ("models: {..: m.onnx}", "'..' becomes a folder"),
        ("models: {a: m.onnx}\nprofiles: {a b: {}}", "'a b' becomes a folder"),
        ("models: {junit.xml: m.onnx}", "'junit.xml' is a file of the build"),
        ("models: {a: m.onnx}\nvariants: [int8, int8]", "a variant is named twice"),
        ("models: {a: m.onnx}\nexclude: [{}]", "exclude.0: name a model, a variant or a profile"),
        ("models: {a: m.onnx}\nexclude: [{modell: a}]", r"exclude.0.modell' \(did you mean 'model'\?\)"),
        ("models: {a: m.onnx}\ntimeout_s: .inf", "timeout_s: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as error:
        load(tmp_path, text)
    assert str(tmp_path / "builds.yaml") in str(error.value)


def test_cells_are_the_product_less_what_is_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.onnx").touch()
    models = "models: {a: a.onnx, b: b.onnx}\n"
    assert [c.name for c in cells_of(load(tmp_path, models))] == ["a/onnx/default", "b/onnx/default"]
    profiles = models + "variants: [int8]\nprofiles: {x: , y: {batches: [1, 2, 4]}}\n"
    cells = cells_of(load(tmp_path, profiles + "exclude: [{model: a, profile: y}]"))
    assert [c.name for c in cells] == ["a/onnx/x", "b/onnx/x", "b/onnx/y"]
    assert [c.settings.batches for c in cells] == [(1, 1, 8), (1, 1, 8), (1, 2, 4)]
    assert [c.origin for c in cells] == ["a/a.onnx", "b/b.onnx", "b/b.onnx"]


def test_leaving_out_what_is_not_there_or_everything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").touch()
    with pytest.raises(BadInput, match="no cell has model 'a', variant 'fp32'"):
        cells_of(load(tmp_path, "models: {a: a.onnx}\nexclude: [{model: a, variant: fp32}]"))
    with pytest.raises(BadInput, match="leaves no cell"):
        cells_of(load(tmp_path, "models: {a: a.onnx}\nexclude: [{model: a}]"))
    with pytest.raises(BadInput, match=r"models.b: .*b.onnx: no such file"):
        cells_of(load(tmp_path, "models: {a: a.onnx, b: b.onnx}"))
