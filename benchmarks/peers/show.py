"""The peers as a table: the float model, our own variants of the run where they were measured, the peers."""

from collections.abc import Sequence

from benchmarks.peers.results import PeerResults
from benchmarks.report.audit import audit_view
from benchmarks.report.cells import DASH, Grid, decimals, optional, percent, size, times
from benchmarks.results import Variant

__all__ = ["failures", "peer_grid"]

_HEAD = (
    *("", "Top-1", "Drop, points", "Right / wrong", "Same answer", "Logit SQNR"),
    *("Integer share", "… linear, conv", "File size", "Speed-up"),
)


def peer_grid(results: PeerResults, ours: Sequence[Variant] = ()) -> Grid:
    """One row per model.

    Args:
        results: of the peers.
        ours: variants of the same run, shown above the peers; those not judged on the same images are left
            out.
    """
    base = results.reference
    assert base.accuracy is not None
    comparable = [v for v in ours if v.accuracy is not None and v.accuracy.n == base.accuracy.n]
    rows = [_row(base, base)]
    rows += [_row(variant, base) for variant in comparable if variant.name != base.name]
    rows.append(("Other tools",))
    for peer in results.peers:
        failed = (peer.name, *(["failed"] + [DASH] * (len(_HEAD) - 2)))
        rows.append(failed if peer.variant is None else _row(peer.variant, base))
    return Grid(f"{results.model}, {results.data}", _HEAD, tuple(rows))


def failures(results: PeerResults) -> tuple[str, ...]:
    """A line for each peer that could not be made."""
    return tuple(
        f"{peer.name} could not be made: {peer.failure}" for peer in results.peers if peer.variant is None
    )


def _row(variant: Variant, base: Variant) -> tuple[str, ...]:
    own, reference = variant.accuracy, base.accuracy
    assert own is not None
    assert reference is not None
    audit = audit_view(variant)
    return (
        variant.name,
        percent(own.top1),
        DASH if own.agreement is None else f"{100 * (reference.top1 - own.top1):.2f}",
        optional(lambda f: f"+{f.better} / −{f.worse}", own.flips),
        optional(percent, own.agreement),
        optional(lambda db: f"{decimals(db)} dB", own.sqnr_db),
        optional(lambda a: percent(a.total_share), audit),
        optional(lambda a: percent(a.weight_share), audit),
        size(variant.size_bytes),
        _speed(variant),
    )


def _speed(variant: Variant) -> str:
    """Over the run's float model in its best graph, at the first batch size and thread count."""
    first = variant.latency[0] if variant.latency else None
    return optional(
        lambda s: f"{times(s.value)} ({s.low:.2f} to {s.high:.2f})", None if first is None else first.speedup
    )
