"""Rules of thumb: what a layer's figures point to, and what to try in the recipe.

A rule looks at measured figures only. Its thresholds say when a cause is worth a try; whether the try helps
is measured by another profile.
"""

from collections.abc import Callable
from dataclasses import dataclass

from quant.profile.figures import LayerProfile, Profile

__all__ = ["Finding", "Rule", "findings_at", "register_rule", "remedies", "rule_names"]

_UNEVEN = 4.0  # largest over median channel; 4 wastes two bits of the median channel
_DOMINANT = 0.5  # share of the noise
_NOTICEABLE = 0.2
_LONG_TAILS = 16.0  # standard deviations; a normal distribution of a million values spans about 10
_POOR_DB = 20.0  # noise of a hundredth of the signal's energy
_INHERITED_DB = 10.0


@dataclass(frozen=True)
class Finding:
    """Something found at a layer.

    Attributes:
        layer: its name.
        rule: the name of the rule that found it.
        text: what was found, with its figure.
        tries: names of methods, observers or settings of a recipe that address it, the first one first.
    """

    layer: str
    rule: str
    text: str
    tries: tuple[str, ...]


Verdict = tuple[str, tuple[str, ...]]
Rule = Callable[[LayerProfile], Verdict | None]
_RULES: dict[str, Rule] = {}


def register_rule(name: str) -> Callable[[Rule], Rule]:
    """Add a rule; those registered first are reported first.

    A rule returns the finding's text and tries, or None::

        @register_rule("my_rule")
        def _mine(layer: LayerProfile) -> Verdict | None: ...
    """

    def add(rule: Rule) -> Rule:
        _RULES[name] = rule
        return rule

    return add


def rule_names() -> tuple[str, ...]:
    """All rules, in the order of report."""
    return tuple(_RULES)


def findings_at(layer: LayerProfile) -> list[Finding]:
    """What the rules find at one layer; nothing where it is float."""
    if not layer.is_quantized:
        return []
    verdicts = ((name, rule(layer)) for name, rule in _RULES.items())
    return [Finding(layer.name, name, *verdict) for name, verdict in verdicts if verdict is not None]


def remedies(profile: Profile, count: int = 3) -> list[Finding]:
    """The findings at the ``count`` worst layers (:meth:`Profile.worst`), the worst layer's first."""
    return [finding for layer in profile.worst(count) for finding in findings_at(layer)]


@register_rule("outlier_units")
def _outlier_units(layer: LayerProfile) -> Verdict | None:
    source = layer.input
    if source is None or source.bits is None or source.source != "gelu" or _weight_dominates(layer):
        return None
    if source.channel_ratio <= _UNEVEN:
        return None
    text = f"a hidden unit behind GELU is {source.channel_ratio:.1f} times as large as the median unit"
    return text, ("outlier_side_path", "gelu_scale")


@register_rule("uneven_channels")
def _uneven_channels(layer: LayerProfile) -> Verdict | None:
    source = layer.input
    if source is None or source.bits is None or source.source == "gelu" or _weight_dominates(layer):
        return None
    if source.channel_ratio <= _UNEVEN:
        return None
    text = f"input channels are uneven: the largest is {source.channel_ratio:.1f} times the median"
    if source.source == "layer_norm":
        return text, ("layer_norm_linear", "hadamard")
    return text, ("mse_grid", "omse")


@register_rule("clipping")
def _clipping(layer: LayerProfile) -> Verdict | None:
    source = layer.input
    if source is None or source.clipping_share <= _DOMINANT or _weight_dominates(layer):
        return None
    text = f"clipping {100 * source.clipped:.2g}% of the input makes {source.clipping_share:.0%} of its noise"
    return text, ("omse", "mse_grid")


@register_rule("long_tails")
def _long_tails(layer: LayerProfile) -> Verdict | None:
    source = layer.input
    if source is None or source.bits is None or _weight_dominates(layer):
        return None
    if source.range_sigmas <= _LONG_TAILS or source.clipping_share > _NOTICEABLE:
        return None
    text = f"the input's range is {source.range_sigmas:.0f} standard deviations wide, and hardly clipped"
    return text, ("percentile", "mse_grid")


@register_rule("weight")
def _weight(layer: LayerProfile) -> Verdict | None:
    if layer.weight is None or not _weight_dominates(layer):
        return None
    text = (
        f"the {layer.weight.bits}-bit weight (SQNR {layer.weight.sqnr_db:.1f} dB) makes "
        f"{layer.isolated.weight_share:.0%} of the layer's noise"
    )
    if layer.weight.granularity == "per_tensor":
        return text, ("per_channel", "gptq")
    if layer.weight.granularity == "per_channel" and layer.weight.bits < 8:
        return text, ("gptq", "per_group")
    return text, ("gptq",)


@register_rule("mean_shift")
def _mean_shift(layer: LayerProfile) -> Verdict | None:
    if layer.weight is None or layer.isolated.mean_shift <= _NOTICEABLE:
        return None
    text = f"{layer.isolated.mean_shift:.0%} of the layer's noise is a constant shift of its channels"
    return text, ("bias_correction",)


@register_rule("too_few_bits")
def _too_few_bits(layer: LayerProfile) -> Verdict | None:
    if layer.isolated.qsnr_db >= _POOR_DB:
        return None
    text = f"its own QSNR is {layer.isolated.qsnr_db:.1f} dB"
    return text, ("overrides",)


@register_rule("inherited")
def _inherited(layer: LayerProfile) -> Verdict | None:
    inherited = layer.isolated.qsnr_db - layer.output.qsnr_db
    if inherited <= _INHERITED_DB:
        return None
    text = (
        f"alone it has {layer.isolated.qsnr_db:.1f} dB; {inherited:.1f} dB are lost to errors of the layers "
        "in front"
    )
    return text, ()


def _weight_dominates(layer: LayerProfile) -> bool:
    return layer.isolated.weight_share > _DOMINANT
