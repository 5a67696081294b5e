"""The main table: every figure of the reference beside that of each variant."""

from collections.abc import Callable

from benchmarks.accuracy import Accuracy
from benchmarks.energy import Energy
from benchmarks.latency import Latency
from benchmarks.load import LoadResult
from benchmarks.report.audit import audit_view
from benchmarks.report.cells import DASH, Grid, decimals, label, optional, percent, size, times
from benchmarks.results import Summary, Variant

__all__ = ["comparison", "configurations", "entry", "ordered", "where"]

Row = tuple[str, ...]


def comparison(summary: Summary) -> Grid:
    """One column per variant, the reference first; rows that nobody has a figure for are left out."""
    variants = ordered(summary)
    notes: Row = ("Note", *(v.note or DASH for v in variants))
    groups: list[tuple[str, list[Row]]] = [
        ("Accuracy", _accuracy_rows(variants, summary.settings.get("task") == "multilabel")),
        *((f"Speed, {where(c)}", _latency_rows(summary, c)) for c in configurations(summary)),
        *((f"Load, {title}", _load_rows(variants, key)) for key, title in _loads(variants).items()),
        ("Cost", [*_cost_rows(variants), notes]),
    ]
    rows: list[Row] = []
    for title, group in groups:
        measured = [row for row in group if any(cell != DASH for cell in row[1:])]
        rows += [(title,), *measured] if measured else []
    return Grid("Side by side", ("", *(label(v.name) for v in variants)), tuple(rows))


def ordered(summary: Summary) -> tuple[Variant, ...]:
    """The reference, then the others."""
    return (summary.base, *summary.others)


def configurations(summary: Summary) -> tuple[tuple[int, int], ...]:
    """The (batch, threads) pairs that anything was timed with, in the order of measurement."""
    found = ((e.batch, e.threads) for v in ordered(summary) for e in v.latency or ())
    return tuple(dict.fromkeys(found))


def entry(variant: Variant, configuration: tuple[int, int]) -> Latency | None:
    """The latency of a variant at a (batch, threads) pair, if it was timed there."""
    return next((e for e in variant.latency or () if (e.batch, e.threads) == configuration), None)


def _accuracy_rows(variants: tuple[Variant, ...], several: bool) -> list[Row]:
    of = "of yes" if several else "macro"

    def row(name: str, show: Callable[[Accuracy], str]) -> Row:
        return (name, *(optional(show, v.accuracy) for v in variants))

    return [
        row("Samples", lambda a: str(a.n)),
        row("All answers right" if several else "Top-1 accuracy", lambda a: percent(a.top1)),
        row("95% interval", lambda a: f"{100 * a.ci95.low:.1f} to {100 * a.ci95.high:.1f}%"),
        row("Top-5 accuracy", lambda a: optional(percent, a.top5)),
        row(f"Precision ({of})", lambda a: percent(a.precision)),
        row(f"Recall ({of})", lambda a: percent(a.recall)),
        row(f"F1 ({of})", lambda a: percent(a.f1)),
        row("Same answer", lambda a: optional(percent, a.agreement)),
        row("Became right / wrong", lambda a: optional(lambda f: f"+{f.better} / −{f.worse}", a.flips)),
        row("McNemar p", lambda a: optional(lambda f: f"{f.p_value:.2g}", a.flips)),
        row("Logit SQNR", lambda a: optional(lambda db: f"{decimals(db)} dB", a.sqnr_db)),
        row("Logit cosine", lambda a: optional(lambda cosine: f"{cosine:.4f}", a.cosine)),
    ]


def _latency_rows(summary: Summary, configuration: tuple[int, int]) -> list[Row]:
    variants = ordered(summary)
    noise = summary.noise_at(*configuration)
    twice = DASH if noise is None else f"{noise.ratio.low:.2f} to {noise.ratio.high:.2f}×"
    twice += "" if noise is None or noise.quiet else ": too noisy to tell"

    def row(name: str, show: Callable[[Latency], str]) -> Row:
        return (name, *(optional(show, entry(v, configuration)) for v in variants))

    return [
        row("Median latency", lambda e: f"{decimals(e.median_ms)} ms"),
        row("p90 / p99", lambda e: f"{decimals(e.p90_ms)} / {decimals(e.p99_ms)} ms"),
        row("Speed-up", _speed),
        row("Throughput", lambda e: f"{decimals(e.images_per_s)} samples/s"),
        row("Loading", lambda e: f"{decimals(e.load_ms)} ms"),
        row("First call", lambda e: f"{decimals(e.first_ms)} ms"),
        row("Processes × calls", lambda e: f"{e.processes} × {len(e.samples_ms) // e.processes}"),
        ("Against itself", twice, *(DASH for _ in summary.others)),
    ]


def _speed(latency: Latency) -> str:
    return optional(lambda s: f"{times(s.value)} ({s.low:.2f} to {s.high:.2f})", latency.speedup)


def where(configuration: tuple[int, int]) -> str:
    """A (batch, threads) pair in words."""
    batch, threads = configuration
    return f"batch {batch}, {threads} thread{'s' * (threads > 1)}"


def _loads(variants: tuple[Variant, ...]) -> dict[tuple[str, float | None], str]:
    """Every load that a variant was put under, in words."""
    found = {}
    for result in (result for v in variants for result in v.load or ()):
        words = f"{result.batch} samples per call"
        if result.utilization is not None:
            words = f"{decimals(result.rate)} samples per second at random times"
        found[result.scenario, result.utilization] = f"{result.scenario}: {words}"
    return found


def _load_rows(variants: tuple[Variant, ...], key: tuple[str, float | None]) -> list[Row]:
    found = [next((r for r in v.load or () if (r.scenario, r.utilization) == key), None) for v in variants]

    def row(name: str, show: Callable[[LoadResult], str]) -> Row:
        return (name, *(optional(show, result) for result in found))

    rows = [row("Answered", lambda r: f"{decimals(r.images_per_s)} samples/s")]
    if key[0] == "server":
        rows.append(row("p50 / p99", lambda r: f"{decimals(r.p50_ms)} / {decimals(r.p99_ms)} ms"))
        rows.append(row("99% kept", lambda r: f"{decimals(r.latency_ms)} ms: {'yes' if r.valid else 'no'}"))
    return rows


def _cost_rows(variants: tuple[Variant, ...]) -> list[Row]:
    return [
        ("Peak memory", *(optional(lambda m: f"{decimals(m.peak_mib)} MiB", v.memory) for v in variants)),
        (
            "Model alone",
            *(optional(lambda m: f"{decimals(m.peak_delta_mib)} MiB", v.memory) for v in variants),
        ),
        ("Energy, modelled", *(optional(_energy, v.energy) for v in variants)),
        ("Energy, counted", *(optional(_counted, v.energy) for v in variants)),
        ("File size", *(size(v.size_bytes) for v in variants)),
        ("Size ratio", *(optional(times, v.size_ratio) for v in variants)),
        ("Integer share", *(optional(lambda a: percent(a.total_share), audit_view(v)) for v in variants)),
    ]


def _energy(energy: Energy) -> str:
    ratio = "" if energy.ratio == 1 else f" ({times(energy.ratio)} less)"
    return f"{decimals(energy.modelled_mj)} mJ{ratio}"


def _counted(energy: Energy) -> str:
    return optional(lambda mj: f"{decimals(mj)} mJ", energy.measured_mj)
