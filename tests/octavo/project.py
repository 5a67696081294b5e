"""A small project on disk, and the command line called on it."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

import octavo

ROOT = Path(octavo.__file__).resolve().parent
MODELS = """
import os, sys, time
import torch
from torch import nn
from quant.data.csv_source import CsvSource
from quant.data.sources import register_source

class Two(nn.Module):
    num_classes = 3
    def __init__(self, nan=False, branch=False):
        super().__init__()
        self.first, self.second = nn.Linear(192, 64), nn.Linear(64, 3)
        self.act, self.branch = nn.GELU(), branch
        if nan:
            self.first.bias.data[5] = float("nan")
    def forward(self, x):
        x = self.first(x.flatten(1))
        if self.branch and x.sum() > 0:
            x = -x
        return self.second(self.act(x))

@register_source("slow_csv")
class Slow(CsvSource):
    def __getitem__(self, index):
        if os.environ.get("SLOW"):
            print("decoding", file=sys.stderr, flush=True)
            time.sleep(0.2)
        return super().__getitem__(index)
"""


class Project:
    """A folder with a model, images and a configuration that `change` edits."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "run"
        (folder / "octavo_test_models.py").write_text(MODELS)
        generator = np.random.default_rng(0)
        rows = ["file,class_index"]
        for i in range(12):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
            rows.append(f"{i}.png,{i % 3}")
        (folder / "labels.csv").write_text("\n".join(rows))
        self.settings: dict[str, Any] = {
            "model": {
                "name": "octavo_test_models:Two",
                "preprocessing": {"input_size": [3, 8, 8], "mean": [0.5] * 3, "std": [0.5] * 3},
            },
            "calibration": {"kind": "csv", "path": "labels.csv"},
            "validation": {"kind": "slow_csv", "path": "labels.csv"},
            "targets": ["ort-x86", "tensorrt"],
            # A flip of one of these few outputs would be too large a share of them.
            "export": {"parity": "warn"},
            "bench": {"processes": 2, "warmup": 1, "calls": 3},
        }

    def change(self, section: str, **entries: Any) -> None:
        self.settings[section] = self.settings.get(section, {}) | entries

    @property
    def config(self) -> Path:
        path = self.folder / "run.yaml"
        path.write_text(yaml.safe_dump(self.settings))
        return path

    def run(self) -> Result:
        return call("run", self.config, "--out", self.out)

    def environment(self, **more: str) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}", "OMP_NUM_THREADS": "1"} | more

    def left(self) -> list[str]:
        """What is in the run's folder, besides the copy of the configuration and stamps."""
        files = (p for p in self.out.rglob("*") if p.is_file())
        names = (p.relative_to(self.out).as_posix() for p in files)
        return sorted(
            n for n in names if n != "config.yaml" and not (n.startswith(".octavo/") and n.endswith(".json"))
        )


def call(*arguments: object) -> Result:
    return CliRunner().invoke(octavo.app, [str(a) for a in arguments])


def check_refused(result: Result, *words: str) -> None:
    """One line, exit code 2, no traceback."""
    assert result.exit_code == 2, result.output
    complaint = [line for line in result.stderr.splitlines() if line.startswith("octavo: ")]
    assert len(complaint) == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in complaint[0]
