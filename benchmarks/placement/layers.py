"""The table the search works on: what every unit takes in both forms, and what it loses quantized."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.bench import bound_cpus
from benchmarks.placement.loss import unit_losses
from benchmarks.placement.timing import TimingSettings, UnitTime, bound_to, time_windows
from benchmarks.placement.windows import Declined, find_windows
from benchmarks.run_variants import float_file
from benchmarks.statistics import Ratio
from deploy.onnxruntime.build import settings_from
from deploy.pipeline.images import Spread, calibration_batches
from deploy.pipeline.line import Line, variant_name
from export.targets import Target
from quant.census import take_census
from quant.mixed.groups import Group
from quant.mixed.settings import FLOAT
from quant.mixed.units import find_units
from quant.progress import Progress
from quant.recipe import Recipe

__all__ = ["LayerTable", "latency_csv", "measure_layers"]


@dataclass(frozen=True)
class LayerTable:
    """Everything measured of single units.

    Attributes:
        batch: images per call.
        threads: inside one operator.
        images: validation images that the losses were measured on.
        times: of the units that are up for choice.
        losses: nats by unit, see :func:`benchmarks.placement.loss.unit_losses`.
        layers: the layers of each unit.
        declined: the units that stay as they are.
    """

    batch: int
    threads: int
    images: int
    times: tuple[UnitTime, ...]
    losses: Mapping[str, float]
    layers: Mapping[str, tuple[str, ...]]
    declined: tuple[Declined, ...]

    def to_json(self) -> str:
        """As text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "LayerTable":
        """Read :meth:`to_json` back."""
        found: dict[str, Any] = json.loads(text)
        times = tuple(UnitTime(**unit | {"speedup": Ratio(**unit["speedup"])}) for unit in found["times"])
        layers = {unit: tuple(names) for unit, names in found["layers"].items()}
        declined = tuple(Declined(**unit) for unit in found["declined"])
        return cls(**found | {"times": times, "layers": layers, "declined": declined})


def measure_layers(
    line: Line, recipe: Recipe, target: Target, images: int, timing: TimingSettings, progress: Progress
) -> LayerTable:
    """Time and judge every unit of a lowered variant.

    Args:
        line: a run whose variant is lowered.
        recipe: of the variant.
        target: of the variant; it runs on this machine.
        images: how many validation images the losses are measured on.
        timing: how units are timed.
        progress: told what is done.

    Raises:
        BadInput: a file of the variant is missing.
    """
    how = line.config.bench
    batch, threads = line.batch_size(how.batch_sizes[0]), how.threads[0]
    calibrated = line.calibrated(recipe)
    some = Spread(line.validation, images)
    shown = list(calibration_batches(some, line.loaded.preprocessing, line.batch_size(16))(None))
    units = find_units(calibrated)
    quantized = _read(line, f"{variant_name(recipe, target)}/model.onnx")
    plain = _read(line, float_file(line))
    windows, declined = find_windows(units, quantized, plain)
    chosen = [unit for unit in units if unit.name in {window.unit for window in windows}]
    encoding = target.encoding(line.config.saturation_guard)
    losses = unit_losses(calibrated, chosen, encoding, shown, progress)
    feed = np.ascontiguousarray(np.resize(shown[0].numpy(), (batch, *shown[0].shape[1:])), dtype=np.float32)
    session = settings_from({"providers": list(how.providers), "intra_op_threads": threads})
    with bound_to(bound_cpus(how.cpus, threads)):
        times = time_windows(windows, quantized, plain, feed, timing, session, progress)
    return LayerTable(
        batch=batch,
        threads=threads,
        images=len(some),
        times=tuple(times),
        losses=losses,
        layers={unit.name: unit.layers for unit in chosen},
        declined=tuple(declined),
    )


def latency_csv(line: Line, recipe: Recipe, table: LayerTable) -> str:
    """The times as ``mixed_precision`` reads them for a budget of latency: layer, bits, milliseconds.

    The time of several layers that are one unit is divided by their multiply-accumulates. Float is 16 bits.
    """
    calibrated = line.calibrated(recipe)
    macs = {layer.name: layer.macs for layer in take_census(calibrated.reference)}
    widths = _widths(find_units(calibrated))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("layer", "bits", "milliseconds"))
    for unit in table.times:
        names = [name for name in table.layers[unit.unit] if name in widths]
        total = sum(macs[name] for name in names)
        for name in names:
            share = macs[name] / total
            rows.writerow((name, widths[name], f"{share * unit.quantized_ms:.5f}"))
            rows.writerow((name, FLOAT, f"{share * unit.plain_ms:.5f}"))
    return text.getvalue()


def _widths(units: Sequence[Group]) -> dict[str, int]:
    """The width of each layer's weight."""
    return {site.layer: site.spec.bits for unit in units for site in unit.sites if site.is_weight}


def _read(line: Line, file: str) -> onnx.ModelProto:
    line.workspace.sha256(file)  # says which stage to run where it is missing
    return onnx.load(Path(line.workspace.path(file)))
