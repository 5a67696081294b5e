"""Lower the float model to a target: the same function, in the graph its runtime executes best."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from deploy.onnxruntime.run import OrtRunner
from export.passes.attention import FuseAttention
from export.passes.base import PassNote, run_passes
from export.targets import Target
from export.write import write_model
from quant.errors import BadInput, InternalError
from quant.files import replace_bytes

__all__ = ["TOLERANCE", "FloatLowering", "lower_float"]

TOLERANCE = 1e-4
"""Largest output difference allowed, relative to the largest output: the same sums, in another order."""


@dataclass(frozen=True)
class FloatLowering:
    """What lowering did.

    Attributes:
        target: the target's name.
        changed: whether the graph is another one; else the file is a copy.
        difference: largest output difference to the plain model, relative to the largest output.
        notes: remarks of the passes.
    """

    target: str
    changed: bool
    difference: float = 0.0
    notes: list[PassNote] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "target": self.target,
            "changed": self.changed,
            "difference": self.difference,
            "notes": [
                {"pass": n.graph_pass, "node": n.node, "applied": n.applied, "text": n.text}
                for n in self.notes
            ],
        }


def lower_float(plain: Path, target: Target, path: Path, images: NDArray[np.float32]) -> FloatLowering:
    """Write the float model for one target.

    Args:
        plain: what :func:`export.onnx_export.export_float` wrote.
        target: where it will run.
        path: the file to write; a copy of ``plain`` where no pass has anything to do.
        images: [N, C, H, W] to compare the outputs on, with ONNX Runtime.

    Raises:
        BadInput: ``plain`` cannot be read.
        InternalError: a pass broke its promise, or the outputs differ by more than :data:`TOLERANCE`.
    """
    try:
        model = ir.load(plain)
    except Exception as error:
        raise BadInput(f"{plain} is not a readable ONNX file: {error}") from error
    notes = run_passes(model, [FuseAttention()] if target.fused_attention else [])
    if not any(note.applied for note in notes):
        replace_bytes(path, plain.read_bytes())
        return FloatLowering(target.name, False, notes=notes)
    model.metadata_props["octavo.target"] = target.name
    write_model(model, path)
    expected, got = (_outputs(file, images) for file in (plain, path))
    difference = float(np.abs(expected - got).max() / max(np.abs(expected).max(), 1e-30))
    if not difference <= TOLERANCE:
        raise InternalError(
            f"{path}: its output differs from the plain model's by {difference:.2e} of the largest value "
            f"(allowed: {TOLERANCE:g})"
        )
    return FloatLowering(target.name, True, difference, notes)


def _outputs(model: Path, images: NDArray[np.float32]) -> NDArray[np.float64]:
    with OrtRunner(model) as runner:
        (name,), (output,) = runner.input_names, runner.output_names
        return np.asarray(runner.infer({name: images})[output], dtype=np.float64)
