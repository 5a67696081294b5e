"""Write captured graphs as ONNX."""

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx

from export.operators import translations
from export.passes.base import Pass, PassNote, run_passes
from export.passes.encodings import set_encodings
from export.passes.functions import AddFunctions
from export.passes.names import NameNodes
from export.settings import ExportSettings
from export.simplify import SimplifyNote, simplify
from export.skeleton import qdq_skeleton
from export.storage import needed_opset
from export.write import write_model
from quant.calibrated import CalibratedGraph
from quant.encoding import Encoding, freeze
from quant.errors import Unsupported

__all__ = ["INPUT", "OUTPUT", "ExportNotes", "export_float", "export_qdq"]

INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True)
class ExportNotes:
    """What the export did.

    Attributes:
        simplify: what became of the simplifier's result; None when it was not asked for.
        passes: remarks of the graph edits.
    """

    simplify: SimplifyNote | None
    passes: list[PassNote] = field(default_factory=list)


def export_float(
    graph: fx.GraphModule, example: Tensor, path: Path, settings: ExportSettings, metadata: Mapping[str, str]
) -> ExportNotes:
    """Write the captured float graph.

    Args:
        graph: a captured graph.
        example: [N, C, H, W], the batch it was captured with.
        path: the file to write.
        settings: opset and so on.
        metadata: stored in the file.

    Raises:
        Unsupported: an operator has no ONNX form; the message names it.
    """
    return _export(graph, example, path, settings, metadata)


def export_qdq(
    calibrated: CalibratedGraph,
    example: Tensor,
    path: Path,
    settings: ExportSettings,
    metadata: Mapping[str, str],
) -> ExportNotes:
    """Write the calibrated graph with Q/DQ pairs, in the recipe's own formats, for no target in particular.

    Initializers are named after the sites: ``<site>.scale``, ``<site>.zero_point``, ``<site>.codes``.

    Args:
        calibrated: a calibrated graph; its fake-quant layers are frozen in the recipe's own formats.
        example: [N, C, H, W].
        path: the file to write.
        settings: opset and so on.
        metadata: stored in the file.

    Raises:
        Unsupported: a format or an operator has no ONNX form; the message names it.
    """
    frozen = freeze(calibrated, Encoding())
    skeleton = qdq_skeleton(calibrated, frozen)
    opset = max(settings.opset, needed_opset(calibrated, frozen))
    raised = settings.model_copy(update={"opset": opset})
    notes = _export(skeleton, example, path, raised, metadata, [set_encodings(calibrated, frozen)])
    if opset > settings.opset:
        text = f"written in opset {opset}, not {settings.opset}: 4-bit codes and groups need it"
        notes.passes.append(PassNote("export", "", True, text))
    return notes


def _export(
    graph: fx.GraphModule,
    example: Tensor,
    path: Path,
    settings: ExportSettings,
    metadata: Mapping[str, str],
    passes: Sequence[Pass] = (),
) -> ExportNotes:
    model = _torch_to_onnx(graph, example, settings)
    if settings.dynamic_batch:
        for value in (*model.graph.inputs, *model.graph.outputs):
            assert value.shape is not None
            value.shape = ir.Shape(["batch", *list(value.shape)[1:]])
    notes = run_passes(model, [NameNodes(), AddFunctions()])
    simplified = simplify(model, example) if settings.simplify else None
    if simplified is not None:
        model = simplified.model
    notes += run_passes(model, passes)
    model.metadata_props.update(metadata)
    write_model(model, path)
    return ExportNotes(None if simplified is None else simplified.note, notes)


def _torch_to_onnx(graph: fx.GraphModule, example: Tensor, settings: ExportSettings) -> ir.Model:
    arguments: dict[str, Any] = {
        "dynamo": True,
        "opset_version": settings.opset,
        "input_names": [INPUT],
        "output_names": [OUTPUT],
        "dynamic_shapes": ({0: torch.export.Dim.DYNAMIC},) if settings.dynamic_batch else None,
        "custom_translation_table": translations(),
        "verbose": False,
    }
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(graph, (example,), **arguments)
    except torch.onnx.OnnxExporterError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = error.__cause__ or error
        raise Unsupported(
            f"the model has no ONNX form at opset {settings.opset}: {lines[0] if lines else error} ({cause})"
        ) from error
    finally:
        logging.disable(previous)
    assert program is not None
    return program.model
