"""The modelled energy of every variant: by layer and part, against accuracy, and in bit flips.

The model is :mod:`quant.energy.model`; layers of the method ``pann`` count as the repeated additions that
they stand for (:mod:`quant.energy.additions`). Widths are those that a recipe asks for, whatever runs them: a
runtime that stores 4-bit codes in bytes does not spend less for it. Accuracies and sizes of files are those
that the run measured.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from benchmarks.analyses.drawings import Point, best_points, draw_stacked, draw_trade
from benchmarks.analyses.energy_tables import MILLI, Energies, flips_table, layers_table, variants_table
from benchmarks.analyses.findings import Findings
from benchmarks.analyses.registry import register_analysis
from benchmarks.profile.drawing import Drawing
from benchmarks.results import Variant, load_summary
from deploy.pipeline.line import FLOAT, Line, variant_name
from quant.census import LayerCount, take_census
from quant.energy.additions import AddedLayer, added_layers, joules_per_flip, with_additions
from quant.energy.bits import LayerBits, bits_of
from quant.energy.constants import Memory
from quant.energy.model import DEFAULTS, EnergySettings, MultiplierRule, energy_of
from quant.energy.network_flips import flips_of
from quant.errors import Unsupported
from quant.progress import Progress

__all__ = ["EnergyOptions", "energy"]


class EnergyOptions(BaseModel):
    """Options.

    Attributes:
        recipes: which of the run's recipes are looked at; all where none is named.
        drawn: ``fp32`` or names of recipes, whose layers are drawn; the first recipe where none is named.
        families: patterns of names (``fp32`` or a recipe's), by what the legend calls those that match; the
            first match counts.
        size: what accuracies are drawn against, the ``file`` or the weights ``packed`` in their own widths.
        rule: how multipliers scale with the widths.
        weights: where the weights live.
        activations: where the activations live.
        weight_reads: how often a weight is read for one image, 1 / B where B images share a read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipes: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()
    families: dict[str, str] = {}
    size: Literal["file", "packed"] = "file"
    rule: MultiplierRule = DEFAULTS.rule
    weights: Memory = DEFAULTS.weights
    activations: Memory = DEFAULTS.activations
    weight_reads: float = Field(default=DEFAULTS.weight_reads, ge=0, allow_inf_nan=False)

    @property
    def settings(self) -> EnergySettings:
        """What is assumed of the hardware."""
        return EnergySettings(self.rule, self.weights, self.activations, self.weight_reads)


@register_analysis("energy", EnergyOptions)
def energy(line: Line, options: EnergyOptions, progress: Progress) -> Findings:
    """Model the run's variants.

    Args:
        line: a run that was benched.
        options: see there.
        progress: told which recipe is looked at.

    Returns:
        Tables ``variants``, ``layers`` and ``flips``; drawings of the layers, of the parts, and of accuracy
        against energy and size.

    Raises:
        BadInput: a recipe does not exist.
    """
    summary = load_summary(line.workspace.path("summary.json"))
    recipes = [line.recipe_named(name) for name in options.recipes] or list(line.recipes)
    for name in options.drawn:
        if name != FLOAT:
            line.recipe_named(name)
    census = take_census(line.graph)
    found = {FLOAT: _energies(census, {layer.name: LayerBits() for layer in census}, {}, options.settings)}
    remarks = []
    for index, recipe in enumerate(recipes):
        progress("modelling energy", index, len(recipes))
        calibrated = line.calibrated(recipe)
        try:
            bits = bits_of(calibrated.recipe, census)
        except Unsupported as error:
            remarks.append(f"{recipe.name} is left out: {error}")
            continue
        added = added_layers(calibrated, census)
        found[recipe.name] = _energies(census, bits, added, options.settings)
    progress("modelling energy", len(recipes), len(recipes))
    names = {variant_name(r, t): r.name for r in recipes for t in line.targets} | {summary.reference: FLOAT}
    known = [(v, names[v.name]) for v in summary.variants if names.get(v.name) in found]
    rows = [(variant, found[name]) for variant, name in known]
    variants = variants_table(summary, rows, found[FLOAT], options.settings)
    return Findings(
        tables=(variants, layers_table(found), flips_table(found)),
        drawings=tuple(_drawings(known, found, options)),
        figures=_figures(known, found, options),
        remarks=tuple(remarks),
    )


def _energies(
    census: tuple[LayerCount, ...],
    bits: Mapping[str, LayerBits],
    added: Mapping[str, AddedLayer],
    settings: EnergySettings,
) -> Energies:
    spent = with_additions(energy_of(census, bits, settings), census, added, settings)
    stored = {layer.name: layer.bits.weight for layer in spent.layers}
    packed = sum(layer.weights * stored[layer.name] for layer in census) / 8 / 1e6
    return Energies(spent, flips_of(census, bits, added), packed)


def _drawings(
    known: Sequence[tuple[Variant, str]], found: Mapping[str, Energies], options: EnergyOptions
) -> list[Drawing]:
    def parts(joules: tuple[float, float, float]) -> dict[str, float]:
        words = ("multiply-accumulates", "weights", "activations")
        return {word: MILLI * value for word, value in zip(words, joules, strict=True)}

    drawn = []
    others = [name for name in found if name != FLOAT]
    for name in options.drawn or others[:1]:
        if name in found:
            layers = found[name].energy.layers
            rows = {layer.name: parts((layer.macs, layer.weights, layer.activations)) for layer in layers}
            title = f"Energy of each layer, {name}"
            drawn.append(draw_stacked(rows, f"layers_{name}", title, "mJ per image, modelled"))
    rows = {n: parts((e.energy.macs, e.energy.weights, e.energy.activations)) for n, e in found.items()}
    drawn.append(draw_stacked(rows, "parts", "Energy of one image", "mJ per image, modelled"))
    judged = [(v, name, v.accuracy.top1) for v, name in known if v.accuracy is not None]
    if len(judged) > 1:
        draw = partial(draw_trade, worth="top-1, %")
        family = partial(_family, options=options)
        points = [Point(n, MILLI * found[n].energy.total, 100 * t, family(n)) for _, n, t in judged]
        title = "Accuracy against energy"
        drawn.append(draw(points, "energy_pareto", title, "mJ per image, modelled"))
        sizes = [Point(n, _size(v, found[n], options), 100 * t, family(n)) for v, n, t in judged]
        unit = "file, MiB" if options.size == "file" else "weights packed in their widths, MB"
        drawn.append(draw(sizes, "size_pareto", "Accuracy against size", unit))
    return drawn


def _figures(
    known: Sequence[tuple[Variant, str]], found: Mapping[str, Energies], options: EnergyOptions
) -> dict[str, JsonValue]:
    base = found[FLOAT].energy.total
    variants: dict[str, JsonValue] = {}
    points = []
    for variant, name in known:
        own = found[name]
        top1 = None if variant.accuracy is None else variant.accuracy.top1
        variants[variant.name] = {
            "recipe": name,
            "energy_mj": MILLI * own.energy.total,
            "reduction": 1 - own.energy.total / base,
            "packed_mb": own.packed,
            "top1": top1,
        }
        if top1 is not None:
            points.append(Point(variant.name, own.energy.total, top1))
    return {
        "variants": variants,
        "front": [point.name for point in best_points(points)],
        "joules_per_flip": joules_per_flip(options.settings),
        "options": options.model_dump(mode="json"),
    }


def _size(variant: Variant, own: Energies, options: EnergyOptions) -> float:
    return variant.size_bytes / 2**20 if options.size == "file" else own.packed


def _family(name: str, options: EnergyOptions) -> str:
    return next((family for family, pattern in options.families.items() if fnmatchcase(name, pattern)), "")
