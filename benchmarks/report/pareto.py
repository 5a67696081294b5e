"""The Pareto front: what no other choice beats in both respects."""

from collections.abc import Sequence

__all__ = ["front"]


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other point beats, cheapest first.

    A point is beaten by another that costs no more and is worth no less, and is better in one of the two.
    Points that are equal in both stand or fall together.

    Args:
        points: (cost, worth); less cost is better, more worth is better.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i))
    kept: list[int] = []
    for i in order:
        best = points[kept[-1]] if kept else None
        if best is None or points[i][1] > best[1] or points[i] == best:
            kept.append(i)
    return kept
