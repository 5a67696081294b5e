"""What came out, in one plain sentence per variant; a loss is said as plainly as a win."""

from dataclasses import dataclass
from enum import StrEnum

from benchmarks.accuracy import Accuracy
from benchmarks.latency import Latency, Noise
from benchmarks.report.cells import label, times
from benchmarks.report.comparison import configurations, entry
from benchmarks.results import Summary, Variant

__all__ = ["Tone", "Verdict", "verdicts"]

_CHANCE = 0.05  # a difference with a larger p-value is called chance


class Tone(StrEnum):
    """How the sentence ends for the reader.

    ``WIN``: faster, and no accuracy loss beyond chance. ``LOSS``: slower without a gain in accuracy, or less
    accurate without a gain in speed. ``MIXED``: anything between. ``UNKNOWN``: too little was measured.
    """

    WIN = "win"
    MIXED = "mixed"
    LOSS = "loss"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """A sentence about the variant called ``name``."""

    name: str
    sentence: str
    tone: Tone


def verdicts(summary: Summary) -> tuple[Verdict, ...]:
    """One verdict per variant other than the reference, on its first timed configuration."""
    return tuple(_verdict(summary, variant) for variant in summary.others)


def _verdict(summary: Summary, variant: Variant) -> Verdict:
    base = summary.base
    latency = next((e for c in configurations(summary) if (e := entry(variant, c))), None)
    noise = None if latency is None else summary.noise_at(latency.batch, latency.threads)
    speed = _speed(latency, label(base.name), noise)
    accuracy = _accuracy(variant.accuracy, base.accuracy)
    said = [part for part in (speed, accuracy) if part]
    if not said:
        return Verdict(
            variant.name, f"{label(variant.name)}: {variant.note or 'not run here'}.", Tone.UNKNOWN
        )
    sentence = f"{label(variant.name)} is {' and '.join(said)}."
    if variant.size_ratio is not None and abs(variant.size_ratio - 1) >= 0.01:
        ratio = variant.size_ratio
        sentence += f" Its file is {times(ratio) if ratio > 1 else times(1 / ratio)} "
        sentence += "smaller." if ratio > 1 else "larger."
    if latency is None and variant.note:
        sentence += f" ({variant.note}.)"
    chance = 1.0 if noise is None else noise.chance
    return Verdict(variant.name, sentence, _tone(latency, variant.accuracy, base.accuracy, chance))


def _speed(latency: Latency | None, reference: str, noise: Noise | None) -> str:
    if latency is None or latency.speedup is None:
        return ""
    s, where = latency.speedup, f"at batch {latency.batch}"
    chance = 1.0 if noise is None else noise.chance
    if s.low > chance:
        return f"{times(s.value)} faster than {reference} {where}"
    if s.high < 1 / chance:
        return f"slower than {reference} {where} ({times(s.value)} its speed)"
    if noise is not None and not noise.quiet:
        return (
            f"{times(s.value)} as fast as {reference} {where}, which this machine was too noisy to tell "
            f"({reference} took {noise.ratio.low:.2f} to {noise.ratio.high:.2f} of its own time)"
        )
    return f"as fast as {reference} {where}, as far as can be told ({s.low:.2f} to {s.high:.2f}×)"


def _accuracy(own: Accuracy | None, base: Accuracy | None) -> str:
    if own is None or base is None:
        return ""
    change = own.correct - base.correct
    if change == 0:
        return f"as accurate ({own.correct} of {own.n} samples right, like the reference)"
    points = 100 * abs(own.top1 - base.top1)
    direction = "more" if change > 0 else "less"
    counted = f"{abs(change)} of {own.n} samples"
    if own.flips is not None:
        p = own.flips.p_value
        counted += f", {'within' if p > _CHANCE else 'beyond'} chance, p = {p:.2g}"
    return f"{points:.1f} points {direction} accurate ({counted})"


def _tone(latency: Latency | None, own: Accuracy | None, base: Accuracy | None, chance: float) -> Tone:
    if latency is None or latency.speedup is None or own is None or base is None:
        return Tone.UNKNOWN
    change = own.correct - base.correct
    proven = own.flips is not None and own.flips.p_value <= _CHANCE
    faster, slower = latency.speedup.low > chance, latency.speedup.high < 1 / chance
    better, worse = proven and change > 0, proven and change < 0
    if faster and not worse:
        return Tone.WIN
    if (slower and not better) or (worse and not faster):
        return Tone.LOSS
    return Tone.MIXED
