"""What is packed, what is refused, and that the same run gives the same bytes."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

from benchmarks.kit.pack import pack
from benchmarks.kit.samples import Samples
from deploy.onnxruntime.run import OrtRunner
from quant.errors import BadInput, Unsupported
from tests.benchmarks.kit.conftest import OTHER, SETTINGS
from tests.octavo.project import call, check_refused


def test_the_same_run_gives_the_same_bytes(run: Path, packed: Path, tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        done = call("kit", run, "--samples", 40, "--out", tmp_path / name)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    files = {
        f"kit/{f.relative_to(packed).as_posix()}": f.read_bytes() for f in packed.rglob("*") if f.is_file()
    }
    assert inside == files
    assert [f.name for f in tmp_path.iterdir() if f.name.startswith(".")] == []


def test_a_kit_says_what_is_in_it(packed: Path) -> None:
    about = json.loads((packed / "kit.json").read_text())
    keys = [entry["key"] for entry in about["variants"]]
    assert keys == ["fp32-ort-x86", "fp32", "int8-ort-x86", "int8-ort-arm64"]
    assert [entry["name"] for entry in about["variants"]][:2] == ["fp32", "fp32"]
    assert len(about["labels"]) == len(about["names"]) == about["samples"] == 40
    assert len(set(about["names"])) == 40
    names = {f.relative_to(packed).as_posix() for f in packed.rglob("*") if f.is_file()} - {"kit.json"}
    assert about["files"].keys() == names
    for name, sha256 in about["files"].items():
        assert hashlib.sha256((packed / name).read_bytes()).hexdigest() == sha256


def test_a_kit_knows_whether_weights_are_guarded(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    path = copy / "int8-ort-x86" / "lowering.json"
    for guard, expected in (("none", {"session.x64quantprecision": "1"}), ("pairs", {})):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"guard": guard}))
        kit = pack(copy, tmp_path / guard, samples=4).path
        about = json.loads((kit / "kit.json").read_text())
        found = {entry["key"]: entry["exact"] for entry in about["variants"] if entry["exact"]}
        assert found == ({"int8-ort-x86": expected} if expected else {})


def test_only_what_is_asked_for_is_packed(run: Path, tmp_path: Path) -> None:
    assert pack(run, tmp_path / "a", variants=["int8-ort-arm64"], samples=4).variants == (
        "fp32",
        "int8-ort-arm64",
    )
    some = pack(run, tmp_path / "b", targets=["ort-x86"], samples=4)
    assert some.variants == ("fp32-ort-x86", "fp32", "int8-ort-x86")


def test_weights_outside_the_model_come_along(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    path = copy / OTHER / "model.onnx"
    onnx.save_model(
        onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=1000
    )
    packed = pack(copy, tmp_path / "kit", samples=4)
    folder = packed.path / "models" / OTHER
    assert (folder / "weights.bin").stat().st_size > 1000
    with OrtRunner(folder / "model.onnx") as runner:
        assert runner.output_names == ("output",)


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (np.linspace(-1, 1, 256, dtype=np.float32)[np.arange(3 * 2 * 16 * 16) % 251], {"inputs", "table"}),
        (np.random.default_rng(0).normal(size=3 * 2 * 16 * 16).astype(np.float32), {"inputs"}),
    ],
    ids=["pixels", "many values"],
)
def test_samples_are_stored_without_loss(inputs: np.ndarray, names: set[str], tmp_path: Path) -> None:
    inputs = inputs.reshape(3, 2, 16, 16)
    files = Samples(inputs, np.zeros(3, dtype=np.int64), ("a", "b", "c")).files()
    assert files.keys() == {f"{name}.npy" for name in names}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    stored = np.load(tmp_path / "inputs.npy")
    if "table" in names:
        table = np.load(tmp_path / "table.npy")
        stored = np.stack([table[c][stored[:, c]] for c in range(2)], axis=1)
    np.testing.assert_array_equal(stored, inputs)


def test_what_cannot_be_packed_is_refused_and_leaves_nothing(run: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "kit"
    check_refused(call("kit", run, "--variant", "int8-ort-x68", "--out", out), "did you mean 'int8-ort-x86'")
    check_refused(call("kit", run, "--target", "tensorrt", "--out", out), "the run has no target 'tensorrt'")
    check_refused(call("kit", tmp_path, "--out", out), "is not the folder of a run")
    with pytest.raises(BadInput, match="exists already"):
        pack(run, packed)
    with pytest.raises(BadInput, match="none of int8-ort-x86 is for ort-arm64"):
        pack(run, out, variants=["int8-ort-x86"], targets=["ort-arm64"])
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "config.yaml").write_text(yaml.safe_dump({**SETTINGS, "targets": ["ort-x86", "tensorrt8"]}))
    for asked in ({"targets": ["tensorrt8"]}, {"variants": ["int8-tensorrt8"]}):
        with pytest.raises(Unsupported, match=r"neither runs tensorrt8; a kit can be for .*, tensorrt$"):
            pack(begun, out, **asked)
    with pytest.raises(BadInput, match=r"does not exist; `octavo export"):
        pack(begun, out)
    assert [f.name for f in tmp_path.iterdir()] == ["begun"]
    assert [f.name for f in begun.iterdir()] == ["config.yaml"]


def test_no_kit_is_left_of_which_no_record_could_be_kept(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copy / "kits", ignore_errors=True)
    (copy / "kits").write_text("not a folder")
    with pytest.raises(BadInput, match=r"cannot write .*kits"):
        pack(copy, tmp_path / "kit.zip", samples=4)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
