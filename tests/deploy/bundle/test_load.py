"""A bundle is loaded whole and for its target, or refused."""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.bundle import HERE, load_bundle
from deploy.bundle.layout import FILES, MANIFEST, MODEL, SUMS, sums, zip_bytes
from deploy.bundle.manifest import to_json
from deploy.bundle.show import describe
from quant.errors import BadInput


@pytest.fixture
def folder(bundle_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


def refused(path: Path, words: str, **how: Any) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        load_bundle(path, None, **how)
    assert str(path) in str(caught.value)


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def forged(files: dict[str, bytes], told: Any) -> bytes:
    """A zip whose manifest says something else, with digests that fit."""
    files = files | {MANIFEST: to_json(told)}
    return zip_bytes(files | {SUMS: sums(files)})


def test_both_forms_hold_the_same(bundle_zip: Path, bundle_folder: Path) -> None:
    zipped, unzipped = load_bundle(bundle_zip, "ort-x86"), load_bundle(str(bundle_folder), "ort-x86")
    assert zipped.files == unzipped.files
    assert zipped.digest == unzipped.digest
    assert zipped.manifest == unzipped.manifest
    assert zipped.labels == ("ant", "bee", "cat")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the bundle is for x86")
def test_it_must_be_for_this_machine_or_for_the_target_that_is_named(
    bundle_zip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_bundle(bundle_zip).manifest.target == "ort-x86"
    with pytest.raises(BadInput, match=r"for target ort-x86, not for ort-arm64.*--target ort-arm64"):
        load_bundle(bundle_zip, "ort-arm64")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    for target in (HERE, "tensorrt"):
        with pytest.raises(BadInput, match="was made for target ort-x86, not for"):
            load_bundle(bundle_zip, target)
    assert load_bundle(bundle_zip, None).manifest.variant == "int8"
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(BadInput, match="not for processors of riscv64"):
        load_bundle(bundle_zip)


def test_no_byte_of_a_zip_can_change(bundle_zip: Path, tmp_path: Path) -> None:
    """Each byte of the zip's own structures and of the small files, and some of the model's."""
    whole, path = bundle_zip.read_bytes(), tmp_path / "changed.zip"
    with zipfile.ZipFile(bundle_zip) as archive:
        model = archive.getinfo(MODEL)
        inside = range(model.header_offset + 100, model.header_offset + model.file_size - 100)
    generator = np.random.default_rng(0)
    places = {i for i in range(len(whole)) if i not in inside}
    chosen = {*generator.choice(sorted(places), 150), *generator.choice(inside, 30), 0, len(whole) - 1}
    chosen |= set(range(len(whole) - 200, len(whole)))
    for place in sorted(int(i) for i in chosen):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(changed)
        with pytest.raises(BadInput):
            load_bundle(path, None)


def test_no_byte_can_be_missing_or_added(bundle_zip: Path, tmp_path: Path) -> None:
    whole, path = bundle_zip.read_bytes(), tmp_path / "other.zip"
    for content in (
        b"",
        whole[:-1],
        whole[: len(whole) // 2],
        whole[1:],
        whole + b"\0",
        b"\0" + whole,
        whole + whole,
        b"\0" * 1000,
    ):
        path.write_bytes(content)
        refused(path, "is not a whole zip|is not the zip that")


def test_no_file_of_a_folder_can_change(folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        middle = len(whole) // 2
        for content in (
            whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            whole[:-1],
            whole + b"\n",
            b"",
        ):
            file.write_bytes(content)
            refused(folder, r"changed|bytes instead of|is not that of a bundle|cannot be used")
        file.unlink()
        refused(folder, f"lacks {file.name}|it has no {MANIFEST}")
        file.write_bytes(whole)
    assert load_bundle(folder, None)


def test_nothing_else_can_be_in_a_folder(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    refused(folder, "has notes.txt, which its manifest.json does not list")
    (folder / "notes.txt").unlink()
    (folder / "deeper").mkdir()
    refused(folder, "'deeper' is a link or a folder")
    (folder / "deeper").rmdir()
    model = folder / MODEL
    model.rename(folder.parent / MODEL)
    model.symlink_to(folder.parent / MODEL)
    refused(folder, f"'{MODEL}' is a link or a folder")
    model.unlink()
    os.mkfifo(model)
    refused(folder, f"'{MODEL}' is a link or a folder")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/b", "..", ".hidden", "a\\b", "C:evil", "x" * 99])
def test_names_that_lead_elsewhere_are_refused(bundle_zip: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "slip.zip"
    path.write_bytes(zip_bytes(contents(bundle_zip) | {name: b"evil"}))
    refused(path, "has an entry .* plain names, without folders")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["slip.zip"]


def repacked(path: Path, out: Path, change: Callable[[zipfile.ZipInfo], None], **how: Any) -> Path:
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(out, "w", **how) as new:
        for entry in archive.infolist():
            info = zipfile.ZipInfo(entry.filename, entry.date_time)
            info.external_attr, info.create_system = entry.external_attr, entry.create_system
            change(info)
            new.writestr(info, archive.read(entry), **({"compress_type": how["compression"]} if how else {}))
    return out


def test_a_zip_of_another_tool_is_refused(bundle_zip: Path, tmp_path: Path) -> None:
    same = repacked(bundle_zip, tmp_path / "same.zip", lambda _: None)
    assert same.read_bytes() == bundle_zip.read_bytes()

    def link(entry: zipfile.ZipInfo) -> None:
        entry.external_attr = 0o120777 << 16

    def later(entry: zipfile.ZipInfo) -> None:
        entry.date_time = (2026, 1, 2, 3, 4, 6)

    for name, change in (("link", link), ("later", later)):
        refused(
            repacked(bundle_zip, tmp_path / f"{name}.zip", change), "is not the zip that `octavo package`"
        )
    packed = repacked(bundle_zip, tmp_path / "deflated.zip", lambda _: None, compression=zipfile.ZIP_DEFLATED)
    refused(packed, "is not the zip that `octavo package`")


def test_what_is_too_large_is_refused_before_it_is_read(
    bundle_zip: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    size = sum(file.stat().st_size for file in bundle_folder.iterdir())
    assert load_bundle(bundle_zip, None, limit_bytes=size)
    refused(bundle_zip, f"take {size} bytes; allowed are {size - 1}", limit_bytes=size - 1)
    refused(bundle_folder, f"take {size} bytes; allowed are {size - 1}", limit_bytes=size - 1)
    # 16 MiB of zeros in 16 KiB, of which the manifest knows nothing.
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents(bundle_zip).items():
            archive.writestr(name, bytes(2**24) if name == MODEL else content)
    (tmp_path / "bomb.zip").write_bytes(bomb.getvalue())
    refused(tmp_path / "bomb.zip", r"its files take \d+ bytes", limit_bytes=2**23)
    refused(tmp_path / "bomb.zip", "is not the zip")
    with (tmp_path / "long.zip").open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    refused(tmp_path / "long.zip", f"take {2**40} bytes; allowed are")
    (tmp_path / "many.zip").write_bytes(zip_bytes(contents(bundle_zip) | {f"f{i}": b"" for i in range(20)}))
    refused(tmp_path / "many.zip", f"a bundle has at most {2 * len(FILES)}")


def test_other_things_are_no_bundles(bundle_zip: Path, tmp_path: Path) -> None:
    refused(tmp_path / "none.zip", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "is not a bundle: it has no manifest.json")
    files = contents(bundle_zip)
    for text, words in (
        (b"", "is not that of a bundle"),
        (b"\xff\xfe", "is not that of a bundle"),
        (b"[]", "is not that of a bundle"),
        (b"[" * 100_000, "is not that of a bundle"),
        (b'{"format": "other", "version": 1}', "format 'other'; allowed: octavo-bundle"),
    ):
        path = tmp_path / "foreign.zip"
        path.write_bytes(zip_bytes(files | {MANIFEST: text}))
        refused(path, words)


def test_another_version_of_the_layout_is_named_even_with_files_that_are_new(
    bundle_zip: Path, tmp_path: Path
) -> None:
    files = contents(bundle_zip)
    told = json.loads(files[MANIFEST])
    path = tmp_path / "later.zip"
    for version in (2, 0, None, "1", [1], True):
        path.write_bytes(forged(files | {"new.bin": b"1"}, told | {"version": version}))
        refused(path, r"is a bundle of version .*, this Octavo reads version 1")


def test_a_manifest_that_lies_is_refused_not_believed(bundle_zip: Path, tmp_path: Path) -> None:
    """Digests fit, as of somebody who writes bundles by hand; each value is replaced in turn."""
    files = contents(bundle_zip)
    whole, path = json.loads(files[MANIFEST]), tmp_path / "forged.zip"
    for key in (
        *("model", "variant", "target", "task", "inputs", "outputs", "preprocessing", "saturation_guard"),
        *("measured", "files"),
    ):
        without = {k: v for k, v in whole.items() if k != key}
        path.write_bytes(forged(files, without))
        refused(path, rf"its manifest.json cannot be used \('{key}' is missing\)")
        for value in (None, 5, "x", [], {}, [[1]], {"name": 1}, True):
            if (key in ("variant", "target", "saturation_guard") and value == "x") or (
                key == "saturation_guard" and not value
            ):
                continue
            path.write_bytes(forged(files, whole | {key: value}))
            refused(path, r"cannot be used|does not list")
    for changes in (
        {"inputs": [whole["inputs"][0] | {"shape": []}]},
        {"inputs": [whole["inputs"][0] | {"shape": [None, 3, 8, 9]}]},
        {"outputs": [whole["outputs"][0] | {"shape": [3]}]},
        {"outputs": [whole["outputs"][0] | {"dtype": None}]},
        {"measured": whole["measured"] | {"providers": [5]}},
    ):
        path.write_bytes(forged(files, whole | changes))
        refused(path, "cannot be used")
    path.write_bytes(forged(files, {k: v for k, v in whole.items() if k != "accuracy"}))
    with pytest.raises(BadInput, match="does not say what was measured"):
        describe(load_bundle(path, None))
    path.write_bytes(
        forged(files, whole | {"files": whole["files"] | {"../evil": {"sha256": "", "bytes": 0}}})
    )
    refused(path, "lacks ../evil")
    unknown = {"other.bin": b"1"}
    listed = {"other.bin": {"sha256": sha256(b"1").hexdigest(), "bytes": 1}}
    path.write_bytes(forged(files | unknown, whole | {"files": whole["files"] | listed}))
    refused(path, r"lists other.bin; a bundle can have manifest.json")
    few = {k: v for k, v in whole["files"].items() if k != MODEL}
    path.write_bytes(forged({k: v for k, v in files.items() if k != MODEL}, whole | {"files": few}))
    refused(path, r"must have either model.onnx or engine.plan")
