"""The run whose lowerings are compared: what it must have, and what the fake-quant model answers."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from rich.console import Console

from benchmarks.bars.runs import do_run
from benchmarks.kit.samples import choose
from deploy.pipeline.config import BenchConfig, load_config
from deploy.pipeline.line import Line, open_run, variant_name
from export.targets import get_target
from quant.encoding import WeightGuard, freeze
from quant.errors import BadInput

__all__ = ["ARM", "X86", "Subject", "digits_run", "open_subject"]

ARM, X86 = "ort-arm64", "ort-x86"
_BATCH = 8
_DIGITS = Path(__file__).parents[2] / "examples" / "digits.yaml"


@dataclass(frozen=True, eq=False)
class Subject:
    """A run that was lowered for both targets, and images.

    Attributes:
        line: the run.
        recipe: name of its recipe.
        images: preprocessed validation images [N, C, H, W], float32.
    """

    line: Line
    recipe: str
    images: NDArray[np.float32]

    def file(self, target: str) -> Path:
        """The lowered model."""
        recipe = self.line.recipe_named(self.recipe)
        return self.line.workspace.path(f"{variant_name(recipe, get_target(target))}/model.onnx")

    def model(self, target: str) -> ModelProto:
        """The lowered model, read."""
        return onnx.load(str(self.file(target)))

    @property
    def batches(self) -> list[NDArray[np.float32]]:
        """The images, some at a time."""
        return [self.images[i : i + _BATCH] for i in range(0, len(self.images), _BATCH)]

    @torch.no_grad()
    def fake_quant(self) -> NDArray[np.float32]:
        """Logits [N, K] of the fake-quant model in PyTorch, in the formats of ``ort-arm64``."""
        calibrated = self.line.calibrated(self.line.recipe_named(self.recipe))
        freeze(calibrated, get_target(ARM).encoding())
        parts = [calibrated.graph(torch.from_numpy(batch)) for batch in self.batches]
        return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)

    def required_db(self) -> float:
        """The SQNR against the fake-quant model below which the run refuses the lowered file."""
        path = self.file(ARM).with_name("parity.json")
        found = json.loads(path.read_text(encoding="utf-8"))
        return float(found["end to end, optimizations off"]["required_db"])


def open_subject(run: Path, recipe: str | None, images: int) -> Subject:
    """Open a run.

    Args:
        run: its folder.
        recipe: the first of the run for None.
        images: how many of the validation set.

    Raises:
        BadInput: it was not lowered for both targets, or without the guard against saturation.
    """
    line = open_run(run)
    name = line.recipe_named(recipe).name
    subject = Subject(line, name, np.ascontiguousarray(choose(line, images).inputs))
    for target in (ARM, X86):
        if not subject.file(target).is_file():
            raise BadInput(f"{run}: has no {name}-{target}; add it to `targets`, then `octavo run` it again")
    lowering = json.loads(subject.file(X86).with_name("lowering.json").read_text(encoding="utf-8"))
    if lowering["guard"] == WeightGuard.NONE.value:
        hint = 'say `saturation_guard: "on"` and `octavo run` it again'
        raise BadInput(f"{run}: {name}-{X86} is not guarded against saturation; {hint}")
    return subject


def digits_run(folder: Path, console: Console) -> Path:
    """The demo, lowered for both targets with the guard on; needs no data folder."""
    config = load_config(_DIGITS).model_copy(
        update={
            "targets": (X86, ARM),
            "saturation_guard": "on",
            "bench": BenchConfig(processes=2, warmup=1, calls=2, turn=1),  # its speed is not the question
        }
    )
    do_run(config, folder, console)
    return folder
