"""Two small runs to package: one of images, one of arrays with several answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure_run import SUMMARY
from benchmarks.results import load_summary
from deploy.bundle.package import Packaged, PackageSettings, package_run
from deploy.pipeline.line import open_run
from tests.octavo.project import Project

NAMES = ("ant", "bee", "cat")
_ARRAYS = """
import torch
from torch import nn

class Answers(nn.Module):
    num_classes, input_shape = 3, (4, 2)
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 3)
    def forward(self, x):
        return self.second(torch.relu(self.first(x.flatten(1))))
"""


def image_project(folder: Path) -> Project:
    """Three named classes, for ONNX Runtime on x86 and for TensorRT."""
    project = Project(folder)
    table = (folder / "labels.csv").read_text().splitlines()
    rows = [f"{row},{NAMES[int(row.split(',')[1])]}" for row in table[1:]]
    (folder / "labels.csv").write_text("\n".join([f"{table[0]},class_name", *rows]))
    project.settings["model"]["preprocessing"]["crop_pct"] = 0.9
    return project


def array_project(folder: Path) -> Project:
    """A model of arrays [4, 2] with three answers of yes or no, for a batch of 1."""
    project = Project(folder)
    (folder / "octavo_test_answers.py").write_text(_ARRAYS)
    generator = np.random.default_rng(0)
    np.savez(
        folder / "rows.npz",
        inputs=generator.normal(size=(12, 4, 2)).astype(np.float32),
        labels=generator.integers(0, 8, 12),
    )
    source = {"kind": "arrays", "path": "rows.npz"}
    project.settings |= {
        "model": {"name": "octavo_test_answers:Answers"},
        "calibration": source,
        "validation": source,
        "targets": ["ort-x86"],
        "task": "multilabel",
        "export": {"parity": "warn", "dynamic_batch": False},
    }
    return project


def summary_of(root: Path) -> dict[str, Any]:
    """A run's summary as JSON values."""
    told: dict[str, Any] = json.loads(load_summary(root / SUMMARY).model_dump_json())
    return told


def entry_of(summary: dict[str, Any], name: str) -> dict[str, Any]:
    """One of its variants."""
    (found,) = [variant for variant in summary["variants"] if variant["name"] == name]
    return found  # type: ignore[no-any-return]


def packed(root: Path, out: Path, summary: dict[str, Any] | None = None, **settings: Any) -> Packaged:
    """A bundle of a run, by default of int8 for x86."""
    settings = {"variant": "int8", "target": "ort-x86"} | settings
    return package_run(open_run(root), summary or summary_of(root), PackageSettings(**settings), out)
