"""The tables of the analysis ``energy``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.analyses.findings import Cell, Table
from benchmarks.results import Summary, Variant
from quant.energy.additions import joules_per_flip
from quant.energy.bits import FLOAT_BITS
from quant.energy.model import EnergySettings, ModelEnergy
from quant.energy.network_flips import Flips

__all__ = ["MILLI", "Energies", "flips_table", "layers_table", "variants_table"]

MILLI = 1e3
_VARIANTS = (
    *("variant", "arithmetic, mJ", "weights, mJ", "activations, mJ", "energy, mJ", "less than FP32, %"),
    *("weights packed, MB", "file, MiB", "top-1, %", "drop, points", "same answer, %", "logit SQNR, dB"),
)
_LAYERS = (
    *("recipe", "layer", "kind", "bits of weights", "bits of inputs", "bits of outputs"),
    *("arithmetic, mJ", "weights, mJ", "activations, mJ", "energy, mJ"),
)
_FLIPS = ("recipe", "integer MACs, %", "signed", "unsigned", "saved, %", "repeated additions")


@dataclass(frozen=True)
class Energies:
    """What is known of one recipe, or of the float model.

    Attributes:
        energy: joules by layer.
        flips: None where nothing is in integers.
        packed: megabytes (10⁶ bytes) of all weights in their own widths.
    """

    energy: ModelEnergy
    flips: Flips | None
    packed: float


def variants_table(
    summary: Summary, known: Sequence[tuple[Variant, Energies]], base: Energies, settings: EnergySettings
) -> Table:
    """One row for each variant: its energy, and what the run measured of it.

    Args:
        summary: of the run.
        known: its variants with their energy.
        base: of the float model.
        settings: what the energies were modelled with.
    """
    right = summary.base.accuracy
    rows: list[tuple[Cell, ...]] = []
    for variant, own in known:
        spent, seen = own.energy, variant.accuracy
        rows.append(
            (
                variant.name,
                *(MILLI * joules for joules in (spent.macs, spent.weights, spent.activations, spent.total)),
                100 * (1 - spent.total / base.energy.total),
                own.packed,
                variant.size_bytes / 2**20,
                None if seen is None else 100 * seen.top1,
                None if seen is None or right is None else 100 * (right.top1 - seen.top1),
                None if seen is None or seen.agreement is None else 100 * seen.agreement,
                None if seen is None else seen.sqnr_db,
            )
        )
    note = (
        f"A model, not a measurement: arithmetic by width ({settings.rule.value} rule), weights from "
        f"{settings.weights.value}, read {settings.weight_reads:g} times, activations from "
        f"{settings.activations.value}; constants of Horowitz 2014, 45 nm; float counts {FLOAT_BITS} bits. "
        "Layers of the method pann count as repeated additions, "
        f"{1e15 * joules_per_flip(settings):.1f} fJ a bit flip."
    )
    return Table("variants", "Energy of one image, modelled, and accuracy", _VARIANTS, tuple(rows), note)


def layers_table(found: Mapping[str, Energies]) -> Table:
    """One row for each layer of each recipe.

    Args:
        found: by the recipe's name, or ``fp32``.
    """
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            layer.name,
            str(layer.kind),
            layer.bits.weight,
            layer.bits.activation,
            layer.bits.output,
            *(MILLI * joules for joules in (layer.macs, layer.weights, layer.activations, layer.total)),
        )
        for name, own in found.items()
        for layer in own.energy.layers
    ]
    note = "A value that only its reader rounds moves in float, so that outputs have 32 bits, as a rule."
    return Table("layers", "Energy of each layer for one image, modelled", _LAYERS, tuple(rows), note)


def flips_table(found: Mapping[str, Energies]) -> Table:
    """One row for each recipe that has products of integers.

    Args:
        found: by the recipe's name, or ``fp32``.
    """
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            100 * own.flips.share,
            own.flips.signed,
            own.flips.unsigned,
            100 * (1 - own.flips.unsigned / own.flips.signed),
            own.flips.additions,
        )
        for name, own in found.items()
        if own.flips is not None
    ]
    note = (
        "Expected bit flips of one multiply-accumulate (arXiv 2202.02783), the mean over those in integers. "
        "Unsigned arithmetic gives the same sums from W+ and W-."
    )
    return Table("flips", "Bit flips of a multiply-accumulate", _FLIPS, tuple(rows), note)
