"""Lower the float model to a target: the same function, in the graph and numbers that suit its runtime."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from deploy.onnxruntime.build import Optimization, SessionSettings
from deploy.onnxruntime.run import OrtRunner
from export.passes.attention import FuseAttention
from export.passes.base import Pass, PassNote, run_passes
from export.passes.half import LARGEST, HalfRemainder
from export.passes.older_opset import OlderOpset
from export.targets import Target
from export.write import write_model
from quant.errors import BadInput, InternalError, Unsupported
from quant.files import replace_bytes

__all__ = ["HALF_TOLERANCE", "TOLERANCE", "FloatLowering", "lower_float"]

TOLERANCE = 1e-4
"""Largest output difference allowed, relative to the largest output: the same sums, in another order."""
HALF_TOLERANCE = 0.03
"""The same in float16, whose rounding (2⁻¹¹ each) adds up over the layers: 0.0006 in ViT-Tiny."""


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
        Unsupported: the model does not fit float16, or has an operator that the target's operator set lacks;
            the message names the layer.
        InternalError: a pass broke its promise, or the outputs differ by more than :data:`TOLERANCE`.
    """
    try:
        model = ir.load(plain)
    except Exception as error:
        raise BadInput(f"{plain} is not a readable ONNX file: {error}") from error
    notes = run_passes(model, _passes(target))
    if not any(note.applied for note in notes):
        replace_bytes(path, plain.read_bytes())
        return FloatLowering(target.name, False, notes=notes)
    model.metadata_props["octavo.target"] = target.name
    write_model(model, path)
    # Optimizers may compute float16 in float32, where nothing overflows.
    mode = Optimization.OFF if target.half_remainder else Optimization.ALL
    expected, got = (_outputs(file, images, mode) for file in (plain, path))
    difference = float(np.abs(expected - got).max() / max(np.abs(expected).max(), 1e-30))
    if target.half_remainder and not difference <= HALF_TOLERANCE:
        raise Unsupported(
            f"{target.name}: in float16 the outputs differ by {difference:.2g} of the largest value "
            f"(allowed: {HALF_TOLERANCE:g}); {_overflow(plain, images)}"
        )
    if not target.half_remainder and not difference <= TOLERANCE:
        raise InternalError(
            f"{path}: its output differs from the plain model's by {difference:.2e} of the largest value "
            f"(allowed: {TOLERANCE:g})"
        )
    return FloatLowering(target.name, True, difference, notes)


def _passes(target: Target) -> list[Pass]:
    passes: list[Pass] = [FuseAttention()] if target.fused_attention else []
    if target.half_remainder:
        passes.append(HalfRemainder())
    if target.opset is not None:
        passes.append(OlderOpset(target.opset))
    return passes


def _overflow(plain: Path, images: NDArray[np.float32]) -> str:
    """Where the model first leaves the range of float16."""
    model = onnx.load(plain)
    known = {value.name for value in model.graph.output}
    writers = {name: node.name for node in model.graph.node for name in node.output if name}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in writers if name not in known)
    with OrtRunner(model.SerializeToString(), SessionSettings(optimization=Optimization.OFF)) as runner:
        values = runner.infer({runner.input_names[0]: images[:1]})
    for name, node in writers.items():
        if values[name].dtype == np.float32 and np.abs(values[name]).max(initial=0) > LARGEST:
            layer = node.rpartition("/")[0] or node
            return f"'{layer}' is the first to go beyond ±{LARGEST:g}; leave out target tensorrt"
    return "nothing overflows in float32, so small values lose their precision; leave out target tensorrt"


def _outputs(model: Path, images: NDArray[np.float32], mode: Optimization) -> NDArray[np.float64]:
    with OrtRunner(model, SessionSettings(optimization=mode)) as runner:
        (name,), (output,) = runner.input_names, runner.output_names
        return np.asarray(runner.infer({name: images})[output], dtype=np.float64)
