"""The files of a profile: its tables as CSV, ``summary.json`` and ``plots/*.svg``."""

import csv
import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.files import plain_json
from benchmarks.profile.measure import LayerSensitivity
from benchmarks.profile.plots import draw
from benchmarks.profile.rows import COLUMNS, HISTOGRAM_COLUMNS, Cell, histogram_rows, rows, sensitivity_rows
from benchmarks.profile.sensitivity import draw_measured
from quant.profile import OUTLIER_SIGMAS, Profile, remedies

__all__ = ["replace_folder", "summary_of", "write_profile"]


def write_profile(
    profile: Profile, folder: Path, about: Mapping[str, Any], sensitivity: LayerSensitivity | None = None
) -> None:
    """Write all files; an older folder is replaced when the new one is whole.

    Args:
        profile: the figures.
        folder: where; the folder that holds it must exist.
        about: what was profiled, put first in ``summary.json``.
        sensitivity: of the layers, where it was measured.

    Raises:
        OSError: it cannot be written; an older folder is left as it was.
    """
    drawings = draw(profile)
    summary = dict(about) | summary_of(profile)
    tables = {
        "statistics.csv": _csv(COLUMNS, rows(profile)),
        "histograms.csv": _csv(HISTOGRAM_COLUMNS, histogram_rows(profile)),
    }
    if sensitivity is not None:
        drawings += draw_measured(sensitivity)
        summary["sensitivity"] = _sensitivity(sensitivity)
        columns = ("layer", "bits", *sensitivity.tables)
        tables["sensitivity.csv"] = _csv(columns, sensitivity_rows(sensitivity))

    def write(new: Path) -> None:
        for name, text in tables.items():
            (new / name).write_text(text, encoding="utf-8", newline="")
        (new / "summary.json").write_text(json.dumps(plain_json(summary), indent=1) + "\n", encoding="utf-8")
        (new / "plots").mkdir()
        for drawing in drawings:
            (new / "plots" / f"{drawing.name}.svg").write_text(drawing.svg, encoding="utf-8")

    replace_folder(folder, write)


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill an empty folder beside ``folder``, then put it in its place."""
    new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    try:
        new.mkdir()
        write(new)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def summary_of(profile: Profile) -> dict[str, Any]:
    """The figures of the whole model, the blocks, the worst layers and what to try there."""
    return {
        "images": profile.images,
        "end_to_end": asdict(profile.end_to_end),
        "layers": len(profile.layers),
        "qsnr_db": _spread([layer.output.qsnr_db for layer in profile.layers]),
        "isolated_qsnr_db": _spread([layer.isolated.qsnr_db for layer in profile.layers]),
        "weight_sqnr_db": _spread([layer.weight.sqnr_db for layer in profile.layers if layer.weight]),
        "outliers": {"sigmas": OUTLIER_SIGMAS, **asdict(profile.outlier_line)},
        "blocks": [
            {"name": b.name, "qsnr_db": b.output.qsnr_db, "mse": b.output.mse, "cosine": b.output.cosine}
            for b in profile.blocks
        ],
        "worst": [
            {"name": layer.name, "isolated_qsnr_db": layer.isolated.qsnr_db} for layer in profile.worst(5)
        ],
        "findings": [asdict(finding) for finding in remedies(profile, 5)],
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Of the finite values: a layer without any error has an infinite ratio."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    return {"min": min(finite), "median": median(finite), "mean": fmean(finite), "max": max(finite)}


def _sensitivity(found: LayerSensitivity) -> dict[str, Any]:
    """What was measured, the layers that suffer most, and the front."""
    narrowest = found.first.bits[0]
    return {
        "metrics": list(found.tables),
        "bits": list(found.first.bits),
        "images": found.first.images,
        "layers": len(found.first.groups),
        "most_sensitive": {
            metric: [
                {"name": name, "bits": narrowest, "value": value} for name, value in found.ranked(metric)[:5]
            ]
            for metric in found.tables
        },
        "pareto": {
            "metric": found.first.metric,
            "front": [{"mean_bits": point.cost, "loss": point.loss} for point in found.front],
            "uniform": [
                {"bits": bits, "mean_bits": cost, "loss": loss}
                for bits, (cost, loss) in found.uniform.items()
            ],
        },
    }


def _csv(columns: Iterable[str], cells: Iterable[Mapping[str, Cell]]) -> str:
    text = StringIO(newline="")
    table = csv.DictWriter(text, list(columns), lineterminator="\n")
    table.writeheader()
    table.writerows(cells)
    return text.getvalue()
