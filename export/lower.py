"""Lower the canonical QDQ model to a target: its number formats, then the graph its runtime executes best."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from export.integer_attention import declined_attention
from export.passes.attention import FuseAttention
from export.passes.base import Pass, PassNote, run_passes
from export.passes.encodings import set_encodings
from export.passes.float_weights import FloatWeights
from export.passes.fp8_casts import Fp8Casts
from export.passes.half import HalfRemainder
from export.passes.integer_bias import IntegerBias
from export.passes.older_opset import OlderOpset
from export.passes.packed_weights import PackedWeights
from export.passes.patches import PatchesToMatMul
from export.passes.weight_layout import TransposeWeights
from export.settings import WeightOnlyAccuracy
from export.supported import check_target
from export.targets import Target
from export.write import write_model
from quant.calibrated import CalibratedGraph
from quant.encoding import WeightGuard, freeze
from quant.errors import BadInput
from quant.qparams import QParams

__all__ = ["LoweringReport", "lower"]


@dataclass(frozen=True, eq=False)
class LoweringReport:
    """What lowering did.

    Attributes:
        target: the target's name.
        guard: the weight guard in force: ``none``, ``pairs`` or ``seven_bits``.
        guarded_rows: share of the weight rows, 0 to 1, whose scale the guard enlarged.
        notes: remarks of the passes.
        frozen: parameters of every active site, for the parity check.
    """

    target: str
    guard: str
    guarded_rows: float
    notes: list[PassNote] = field(default_factory=list)
    frozen: dict[str, QParams] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without the parameters."""
        return {
            "target": self.target,
            "guard": self.guard,
            "guarded_rows": self.guarded_rows,
            "notes": [
                {"pass": n.graph_pass, "node": n.node, "applied": n.applied, "text": n.text}
                for n in self.notes
            ],
        }


def lower(
    qdq: Path,
    calibrated: CalibratedGraph,
    target: Target,
    path: Path,
    metadata: Mapping[str, str],
    saturation_guard: str = "auto",
    weight_only_accuracy: WeightOnlyAccuracy = "float",
) -> LoweringReport:
    """Write the model for one target.

    Args:
        qdq: the canonical model that :func:`export.onnx_export.export_qdq` wrote.
        calibrated: the graph it was written from; it is left quantizing in the target's formats.
        target: where it will run.
        path: the file to write.
        metadata: added to the file's.
        saturation_guard: see :meth:`export.targets.Target.encoding`.
        weight_only_accuracy: see :class:`export.settings.ExportSettings`.

    Raises:
        BadInput: ``qdq`` cannot be read.
        Unsupported: the target does not take a format; the message names the site.
        InternalError: a pass broke its promise.
    """
    try:
        model = ir.load(qdq)
    except Exception as error:
        raise BadInput(f"{qdq} is not a readable ONNX file: {error}") from error
    declined = declined_attention(calibrated, target)
    encoding = replace(target.encoding(saturation_guard), dropped_sites=frozenset(declined))
    guarded = encoding.guard is not WeightGuard.NONE
    unguarded = freeze(calibrated, replace(encoding, guard=WeightGuard.NONE))
    frozen = freeze(calibrated, encoding) if guarded else unguarded
    check_target(calibrated, frozen, target)
    encodings = set_encodings(calibrated, frozen)
    notes = [*declined.values(), *run_passes(model, [encodings, *_passes(target, weight_only_accuracy)])]
    model.metadata_props.update(metadata)
    model.metadata_props["octavo.target"] = target.name
    model.metadata_props["octavo.saturation_guard"] = encoding.guard.value
    write_model(model, path)
    scales = [site.name for site in calibrated.weight_sites()]
    enlarged = torch.cat([(frozen[s].scale > unguarded[s].scale).flatten() for s in scales])
    share = float(enlarged.float().mean())
    return LoweringReport(target.name, encoding.guard.value, share, notes, frozen)


def _passes(target: Target, weight_only_accuracy: WeightOnlyAccuracy) -> list[Pass]:
    passes: list[Pass] = []
    if target.matmul_patches:
        passes.append(PatchesToMatMul())
    passes.append(TransposeWeights())
    if target.simulates_fp8:
        passes.append(Fp8Casts())
    if target.packed_weights:
        passes.append(PackedWeights(weight_only_accuracy == "int8"))
    if target.integer_bias:
        passes.append(IntegerBias())
    if target.fused_attention:
        passes.append(FuseAttention())
    if target.half_remainder:
        passes.append(HalfRemainder())
    if target.float_weights:
        passes.append(FloatWeights())
    if target.opset is not None:
        passes.append(OlderOpset(target.opset))
    return passes
