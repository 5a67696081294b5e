"""How long work tells what it is doing."""

from collections.abc import Callable

__all__ = ["Progress", "silent"]

Progress = Callable[[str, int, int], None]
"""Called with a phrase such as ``tuning layers``, the steps done, and the steps in all (0: unknown)."""


def silent(phase: str, done: int, total: int) -> None:
    """Tell nobody."""
    del phase, done, total
