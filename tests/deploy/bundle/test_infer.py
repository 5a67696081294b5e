"""From a bundle to answers, with NumPy, ONNX Runtime and Pillow alone."""

import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deploy.bundle import load_bundle
from deploy.bundle.bundle import Bundle
from deploy.onnxruntime.run import OrtRunner
from deploy.pipeline.line import open_run
from quant.data.batches import batches
from quant.errors import BadInput, Unsupported
from tests.deploy.bundle.runs import packed
from tests.octavo.project import ROOT

ALONE = """
import importlib.abc, json, sys
from importlib.metadata import packages_distributions

NEEDED = {"numpy", "onnxruntime", "PIL", *sys.stdlib_module_names}
OTHERS = set(packages_distributions()) - NEEDED - {"octavo", "quant", "export", "deploy", "benchmarks"}
BEFORE = set(sys.modules)  # what editable installations hook in

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OTHERS:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Block())
from deploy.bundle import load_bundle
bundle = load_bundle(sys.argv[1], "ort-x86")
with bundle.runner() as runner:
    found = bundle.predict(runner, sys.argv[2:], top=3)
loaded = (OTHERS & set(sys.modules)) - BEFORE
assert "torch" in OTHERS and not loaded, loaded
print(json.dumps([[(a.index, a.label, a.score) for a in answers] for answers in found]))
"""


def images_of(run: Path) -> list[Path]:
    return [run.parent / f"{i}.png" for i in range(12)]


def logits_of(run: Path) -> np.ndarray[Any, Any]:
    """What the harness feeds to the file and gets from it."""
    line = open_run(run)
    (batch,) = batches(line.validation, line.loaded.preprocessing, 12)
    with OrtRunner(run / "int8-ort-x86" / "model.onnx") as runner:
        return runner.infer({"input": batch.images.numpy()})["output"]


def test_without_torch_it_answers_as_the_harness_does(image_run: Path, bundle_zip: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(bundle_zip), *map(str, images_of(image_run))],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    expected = torch.from_numpy(logits_of(image_run)).double().softmax(dim=1).numpy()
    assert len(answers) == 12
    for row, scores in zip(answers, expected, strict=True):
        assert [index for index, _, _ in row] == list(np.argsort(-scores, kind="stable"))
        assert [label for _, label, _ in row] == [("ant", "bee", "cat")[index] for index, _, _ in row]
        # The same logits bit for bit; two ways to sum three exponentials.
        assert [score for _, _, score in row] == pytest.approx(sorted(scores, reverse=True), abs=1e-14)


def test_the_tensor_and_the_logits_are_those_of_the_run(image_run: Path, bundle_zip: Path) -> None:
    bundle, line = load_bundle(bundle_zip, "ort-x86"), open_run(image_run)
    (batch,) = batches(line.validation, line.loaded.preprocessing, 12)
    tensors = bundle.prepare(images_of(image_run))
    assert np.array_equal(tensors, batch.images.numpy())
    with bundle.runner() as runner:
        assert np.array_equal(runner.infer({"input": tensors})["output"], logits_of(image_run))
        with Image.open(images_of(image_run)[0]) as image:
            (best,) = bundle.predict(runner, [image], top=1)
        assert best[0] == bundle.predict(runner, images_of(image_run)[:1])[0][0]
        for samples, top, words in (([], 1, "no samples"), ([image], 0, "top is 0"), ([5], 1, "given: int")):
            with pytest.raises(BadInput, match=words):
                bundle.predict(runner, samples, top)


def test_answers_of_yes_and_no_of_arrays_one_by_one(array_run: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("warm\nwet\nwindy\n")
    out = packed(array_run, tmp_path / "b.zip", labels=names).path
    bundle = load_bundle(out, "ort-x86")
    told = bundle.manifest.told
    assert (told["task"], told["scores"]) == ("multilabel", "sigmoid")
    assert told["preprocessing"] == {"kind": "none", "input_size": [4, 2], "dtype": "float32"}
    assert told["inputs"] == [{"name": "input", "dtype": "float32", "shape": [1, 4, 2]}]
    rows = np.load(array_run.parent / "rows.npz")["inputs"][:3]
    with bundle.runner() as runner:
        answers = bundle.predict(runner, rows)
        logits = np.concatenate([runner.infer({"input": row[None]})["output"] for row in rows])
    expected = torch.from_numpy(logits).double().sigmoid().numpy()
    for row, scores in zip(answers, expected, strict=True):
        assert {a.index: a.score for a in row} == pytest.approx(dict(enumerate(scores)), abs=1e-14)
        assert {a.label for a in row} == {"warm", "wet", "windy"}
        assert [a.score for a in row] == sorted((a.score for a in row), reverse=True)
    assert np.array_equal(bundle.scores(np.array([[-1e4, 0.0, 1e4]])), [[0.0, 0.5, 1.0]])
    plain = load_bundle(packed(array_run, tmp_path / "plain.zip").path, "ort-x86")
    with plain.runner() as runner:
        assert {a.label for a in plain.predict(runner, rows[:1])[0]} == {"0", "1", "2"}


def test_exact_kernels_are_asked_for_where_integers_could_saturate(
    bundle_zip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(bundle_zip, "ort-x86")

    def exact(guard: str | None, vnni: bool) -> bool:
        monkeypatch.setattr("deploy.bundle.bundle.has_vnni", lambda: vnni)
        object.__setattr__(bundle.manifest, "guard", guard)
        with bundle.runner() as runner:
            options = runner.session.get_session_options()
            try:
                return bool(options.get_session_config_entry("session.x64quantprecision") == "1")
            except RuntimeError:  # it was not set
                return False

    assert exact("none", vnni=False)
    assert not exact("none", vnni=True)
    assert not exact("pairs", vnni=False)
    assert not exact(None, vnni=False)


def test_an_engine_takes_the_place_of_the_model(image_run: Path, tmp_path: Path) -> None:
    """A stand-in for the plan: that TensorRT-RTX builds real ones is tested with `octavo build`."""
    run = shutil.copytree(image_run.parent, tmp_path / "copy") / "run"
    folder = run / "int8-tensorrt"
    (folder / "engine.plan").write_bytes(b"plan")
    about = {
        "library": "tensorrt",
        "version": "11.4.0",
        "device": "NVIDIA H200 (SM90)",
        "settings": {"batches": [1, 1, 8]},
        "model": "0" * 64,
        "plan": {"sha256": "0" * 64, "bytes": 4},
    }

    def engine() -> Bundle:
        (folder / "engine.json").write_text(json.dumps(about))
        out = packed(run, tmp_path / "b.zip", target="tensorrt", engine=True).path
        return load_bundle(out, "tensorrt")

    with pytest.raises(BadInput, match=r"is not the engine that engine.json describes"):
        engine()
    about["plan"] = {"sha256": sha256(b"plan").hexdigest(), "bytes": 4}
    with pytest.raises(BadInput, match="was built of another model; run `octavo build` again"):
        engine()
    about["model"] = sha256((folder / "model.onnx").read_bytes()).hexdigest()
    bundle = engine()
    assert bundle.files["engine.plan"] == b"plan"
    assert "model.onnx" not in bundle.files
    runtime = {"name": "tensorrt", "version": "11.4.0", "device": "NVIDIA H200 (SM90)"}
    assert bundle.manifest.told["runtime"] == runtime
    assert "pkg:pypi/tensorrt@11.4.0" in bundle.files["sbom.cdx.json"].decode()
    with pytest.raises(Unsupported, match="has an engine of TensorRT"):
        bundle.runner()
