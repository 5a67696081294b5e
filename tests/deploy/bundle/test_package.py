"""`octavo package` and `octavo verify`: what is packaged, what is refused, and what is left behind."""

import copy
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.validation.json import JsonStrictValidator

from deploy.bundle import Bundle, load_bundle
from deploy.bundle.layout import LABELS, LICENSE, MANIFEST, MODEL, SBOM
from deploy.bundle.license import License, published_license
from deploy.bundle.write import write_bundle
from deploy.sbom import SCHEMA
from quant.errors import BadInput
from quant.files import file_sha256
from quant.models.config import ModelConfig
from tests.deploy.bundle.runs import entry_of, packed, summary_of
from tests.octavo.project import call, check_refused


def told(bundle: Path) -> Any:
    return load_bundle(bundle, None).manifest.told


def test_the_manifest_says_what_was_measured(image_run: Path, bundle_zip: Path) -> None:
    bundle = load_bundle(bundle_zip, "ort-x86")
    said, entry = bundle.manifest.told, entry_of(summary_of(image_run), "int8-ort-x86")
    assert bundle.files[MODEL] == (image_run / "int8-ort-x86" / MODEL).read_bytes()
    assert (said["variant"], said["target"], said["task"]) == ("int8", "ort-x86", "classification")
    assert said["accuracy"] == entry["accuracy"]
    assert said["reference"]["accuracy"] == entry_of(summary_of(image_run), "fp32")["accuracy"]
    (latency,), (measured,) = said["latency"], entry["latency"]
    assert latency["median_ms"] == measured["median_ms"]
    assert latency["speedup"] == measured["speedup"]
    (base,) = entry_of(summary_of(image_run), "fp32")["latency"]
    assert latency["reference_median_ms"] == base["median_ms"]
    assert "samples_ms" not in latency
    assert said["measured"]["device"]["architecture"] == os.uname().machine
    assert said["runtime"]["version"] == said["versions"]["onnxruntime"]
    assert said["onnx"]["opsets"]["ai.onnx"] >= 20
    assert said["model"]["license"] == {"spdx": "MIT", "file": False}
    assert said["inputs"] == [{"name": "input", "dtype": "float32", "shape": [None, 3, 8, 8]}]
    assert bundle.labels == ("ant", "bee", "cat")
    for name in (MODEL, LABELS, SBOM):
        content = bundle.files[name]
        assert said["files"][name]["bytes"] == len(content)
    assert said["files"][MODEL]["sha256"] == file_sha256(image_run / "int8-ort-x86" / MODEL)


def test_the_bill_of_materials_is_valid_and_names_model_software_and_licence(bundle_zip: Path) -> None:
    bundle = load_bundle(bundle_zip, "ort-x86")
    text = bundle.files[SBOM].decode()
    assert JsonStrictValidator(SCHEMA).validate_str(text) is None
    parts = {part["name"]: part for part in json.loads(text)["components"]}
    assert parts[MODEL]["hashes"][0]["content"] == bundle.manifest.files[MODEL][0]
    assert parts[MODEL]["licenses"] == [{"license": {"id": "MIT"}}]
    versions = bundle.manifest.told["versions"]
    assert {name: parts[name]["version"] for name in ("torch", "onnx", "onnxruntime")} == {
        name: versions[name] for name in ("torch", "onnx", "onnxruntime")
    }


def test_the_same_run_gives_the_same_bytes_wherever_and_whenever(
    image_run: Path, bundle_zip: Path, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / image_run.parent.name
    shutil.copytree(image_run.parent, moved, copy_function=shutil.copyfile)  # with other times and modes
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setattr("time.time", lambda: 2e9)
    old = os.umask(0o077)
    try:
        packed(moved / "run", tmp_path / "again.zip", license="MIT")
        packed(moved / "run", tmp_path / "again", license="MIT")
    finally:
        os.umask(old)
    assert (tmp_path / "again.zip").read_bytes() == bundle_zip.read_bytes()
    for file in (tmp_path / "again").iterdir():
        assert file.read_bytes() == (bundle_folder / file.name).read_bytes()
        assert file.stat().st_mode & 0o777 == 0o644
    for name, content in load_bundle(bundle_zip, None).files.items():
        if name != MODEL:
            assert str(image_run.parent).encode() not in content
    with zipfile.ZipFile(bundle_zip) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_command_packages_and_verifies(image_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "b.zip"
    done = call(
        *("package", image_run, "--variant", "int8-tensorrt", "--out", out, "--license", "apache-2.0")
    )
    assert done.exit_code == 0, done.output
    assert re.fullmatch(rf"{out}: \d+\.\d\d MiB\n", done.stdout)
    assert "own kernels were not run here" in done.stderr
    assert "licence" not in done.stderr
    shown = call("verify", out)
    assert shown.exit_code == 0, shown.output
    for words in (
        *("whole, 5 files", "octavo_test_models:Two, int8 for tensorrt (tensorrt)", "3 labels"),
        *("of 12); fp32", "licence   Apache-2.0", "12 samples (slow_csv)", "kernels were not run here"),
        file_sha256(image_run / "int8-tensorrt" / MODEL),
    ):
        assert words in shown.stdout
    assert "latency" not in shown.stdout
    assert json.loads(call("verify", out, "--json").stdout) == told(out)
    check_refused(call("verify", out, "--target", "ort-x86"), "for target tensorrt, not for ort-x86")
    out.write_bytes(out.read_bytes()[:-9])
    check_refused(call("verify", out), "is not a whole zip", "make it again")

    repository = tmp_path / "repository"
    default = call("package", image_run, "--variant", "fp32", "--triton", repository)
    assert default.exit_code == 0, default.output
    model = repository / "octavo_test_models_Two-fp32"
    assert (model / "1" / MODEL).read_bytes() == (image_run / "fp32" / MODEL).read_bytes()
    assert default.stdout.splitlines()[1] == str(model)
    assert "licence of the weights is not known" in default.stderr
    assert told(image_run / "bundles" / "fp32-ort-x86.zip")["parity"] is None


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the other processor is ARM here")
def test_the_float_model_is_packaged_for_another_processor_without_times(
    image_run: Path, tmp_path: Path
) -> None:
    done = call("package", image_run, "--variant", "fp32-ort-arm64", "--out", tmp_path / "a.zip")
    assert done.exit_code == 2, "the run has no such variant by name"
    arm = ("--target", "ort-arm64", "--out", tmp_path / "a.zip")
    done = call("package", image_run, "--variant", "fp32", *arm)
    assert done.exit_code == 0, done.output
    assert "accuracy was measured on x86_64, times were not" in done.stderr
    said = told(tmp_path / "a.zip")
    assert (said["target"], said["latency"], said["peak_memory_mib"]) == ("ort-arm64", None, None)
    assert said["accuracy"] == entry_of(summary_of(image_run), "fp32")["accuracy"]
    check_refused(call("package", image_run, "--variant", "int8", *arm), "was not lowered for 'ort-arm64'")


def test_a_variant_must_be_named_well(image_run: Path, tmp_path: Path) -> None:
    def refused(*arguments: str, words: str) -> None:
        check_refused(call("package", image_run, "--out", tmp_path / "b.zip", "--variant", *arguments), words)

    refused("int8", words="'int8' was lowered for ort-x86, tensorrt; choose one with --target")
    known = "it has fp32 for ort-x86; fp16 for tensorrt; int8 for ort-x86 and tensorrt"
    refused("int9", words=f"has no variant 'int9' (did you mean 'int8'?); {known}")
    refused("int8", "--target", "ort-x68", words="for 'ort-x68' (did you mean 'ort-x86'?); the run has it")
    refused("fp16", "--target", "ort-x86", words="the run has it for tensorrt")
    refused("int8-ort-x86", "--target", "tensorrt", words="'int8-ort-x86' is for ort-x86, not for 'tens")
    refused("int8-ort-x86", "--license", "mine", words="no identifier of SPDX, such as Apache-2.0")
    refused("int8-tensorrt", "--engine", words="`octavo build` leaves engine.plan")
    check_refused(call("package", tmp_path, "--variant", "int8"), "is not the folder of a run")
    assert not list(tmp_path.iterdir())


def test_what_was_not_measured_or_is_another_file_is_not_signed_off(image_run: Path, tmp_path: Path) -> None:
    whole = summary_of(image_run)

    def refused(words: str, **changes: Any) -> None:
        summary = copy.deepcopy(whole)
        entry_of(summary, "int8-ort-x86").update(changes)
        with pytest.raises(BadInput, match=words):
            packed(image_run, tmp_path / "b.zip", summary)

    refused("has no measured accuracy.*other_targets: true", accuracy=None, note="not run here")
    refused("is not the file that was measured; run `octavo bench` again", sha256="0" * 64)
    refused("did not keep which file it was", sha256=None)
    for parity in ({"layers": {"compared": 2}}, {"max_abs": 0.1}):
        refused("kept no verdict; run `octavo lower`", parity=parity)
    gone = copy.deepcopy(whole)
    gone["variants"] = [entry for entry in whole["variants"] if not entry["name"].startswith("int8")]
    with pytest.raises(BadInput, match="'int8' was not measured, or was refused on the way"):
        packed(image_run, tmp_path / "b.zip", gone, target=None)
    run = shutil.copytree(image_run.parent, tmp_path / "copy") / "run"
    model = run / "int8-ort-x86" / MODEL
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(BadInput, match="is not the file that was measured"):
        packed(run, tmp_path / "b.zip")
    model.unlink()
    with pytest.raises(BadInput, match="does not exist; run `octavo lower`"):
        packed(run, tmp_path / "b.zip")
    (run / "summary.json").unlink()
    check_refused(call("package", run, "--variant", "int8"), "run `octavo bench` first")
    assert not (tmp_path / "b.zip").exists()


def test_parity_that_a_run_only_warns_of_is_told(image_run: Path, tmp_path: Path) -> None:
    summary = summary_of(image_run)
    entry_of(summary, "int8-ort-x86")["parity"] = {
        "layers": {"within_limits": False},
        "end to end, optimizations all": {"parity_db": 9.04, "required_db": 20, "within_limits": False},
        "end to end, optimizations off": {"parity_db": 30, "required_db": 20, "within_limits": True},
    }
    done = packed(image_run, tmp_path / "b.zip", summary, license="MIT")
    outside = "parity out of limits, which the run's settings let pass"
    assert done.remarks == (
        f"{outside}: layers",
        f"{outside}: end to end, optimizations all: 9.0 dB where 20.0 dB are required",
    )
    assert told(done.path)["parity"]["passed"] is False
    shown = call("verify", done.path).stdout
    assert "OUT OF LIMITS, which the run's settings let pass: end to end, optimizations all, layers" in shown


def test_licence_and_labels_of_files(image_run: Path, tmp_path: Path) -> None:
    text, names = tmp_path / "TERMS.txt", tmp_path / "names.txt"
    text.write_text("For tests only.\n")
    names.write_text("rot\ngrün \nblau\n\n", encoding="utf-8")

    def loaded(**settings: Any) -> Bundle:
        return load_bundle(packed(image_run, tmp_path / "b", **settings).path, "ort-x86")

    bundle = loaded(license=str(text), labels=names)
    assert bundle.files[LICENSE] == text.read_bytes()
    assert bundle.manifest.told["model"]["license"] == {"spdx": None, "file": True}
    assert "see the file LICENSE" in bundle.files[SBOM].decode()
    assert bundle.labels == ("rot", "grün", "blau")
    either = loaded(license="MIT OR Apache-2.0").manifest.told["model"]["license"]
    assert either == {"spdx": "MIT OR Apache-2.0", "file": False}
    table = tmp_path / "names.csv"
    table.write_text("class_index,name\n2,c\n0,a\n1,b\n")
    assert loaded(labels=table).labels == ("a", "b", "c")
    for content, words in (
        ("class_index,name\n0,a\n2,c\n", "count from 0 without a gap"),
        ("class_index,name\n0,a\nx,c\n", "line 3: class_index is not an integer"),
        ("index,name\n0,a\n", "needs the columns class_index and name"),
    ):
        table.write_text(content)
        with pytest.raises(BadInput, match=words):
            loaded(labels=table)
    for content, words in ((b"a\nb", "has 2 names, the model has 3"), (b"a\n\nc", "output 1 is empty")):
        names.write_bytes(content)
        with pytest.raises(BadInput, match=words):
            loaded(labels=names)
    names.write_bytes(b"\xff")
    with pytest.raises(BadInput, match="is not text in UTF-8"):
        loaded(labels=names)


def test_weights_that_timm_publishes_have_its_licence() -> None:
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    assert published_license(ModelConfig(name=name, pretrained=True)) == License(spdx="Apache-2.0")
    assert published_license(ModelConfig(name=name)) == License()  # weights of one's own


def test_class_names_need_the_images_or_a_file(image_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(image_run.parent, tmp_path / "copy") / "run"
    (run.parent / "labels.csv").unlink()
    with pytest.raises(BadInput, match=r"class names cannot be read from the images .* give --labels FILE"):
        packed(run, tmp_path / "b.zip")
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    assert packed(run, tmp_path / "b.zip", labels=tmp_path / "names.txt").path.is_file()


def test_only_bundles_are_replaced(image_run: Path, bundle_folder: Path, tmp_path: Path) -> None:
    files = load_bundle(bundle_folder, None).files
    for name in ("b.zip", "b", "empty"):
        out = tmp_path / name
        if name == "empty":
            out.mkdir()
        write_bundle(files, out)
        write_bundle({k: v for k, v in files.items() if k != SBOM}, out)  # also over one that is damaged
        with pytest.raises(BadInput, match="lacks sbom"):
            load_bundle(out, None)
        write_bundle(files, out)
        assert load_bundle(out, None).files == files
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["b", "b.zip", "empty"]

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    (tmp_path / "b" / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "dangling.zip").symlink_to(tmp_path / "nowhere")
    for name in ("mine", "b", "link", "text.zip", "dangling.zip"):
        with pytest.raises(BadInput, match="is there and is no bundle; give another --out"):
            packed(image_run, tmp_path / name)
    (tmp_path / "dir.zip").mkdir()
    with pytest.raises(BadInput, match="is a folder"):
        packed(image_run, tmp_path / "dir.zip")
    assert (mine / "thesis.txt").read_text() == "years"
    assert (tmp_path / "b" / "notes.txt").exists()


@pytest.mark.parametrize("name", ["b.zip", "b"])
def test_an_interrupted_write_leaves_what_was_there(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    files, out = load_bundle(bundle_folder, None).files, tmp_path / name
    write_bundle(files, out)
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == MODEL or ".zip" in path.name:
            write(path, data[:100])
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    for place in (out, tmp_path / f"new-{name}"):
        with pytest.raises(OSError, match="No space"):
            write_bundle(files, place)
    assert load_bundle(out, None).files == files
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    monkeypatch.undo()
    if name == "b":  # the new one is whole, but cannot take its place
        rename = os.rename

        def refuse(source: Any, target: Any) -> None:
            if str(source).endswith(".part"):
                raise PermissionError(13, "Permission denied", str(target))
            rename(source, target)

        monkeypatch.setattr("os.rename", refuse)
        with pytest.raises(PermissionError):
            write_bundle({MANIFEST: b"{}"}, out)
        assert load_bundle(out, None).files == files
        assert [entry.name for entry in tmp_path.iterdir()] == [name]
