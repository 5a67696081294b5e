"""Figures as short text; a figure that was not measured is a dash."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import JsonValue

__all__ = ["DASH", "Grid", "decimals", "label", "optional", "percent", "plain", "size", "times"]

DASH = "–"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes:
        title: what the table shows.
        head: column titles.
        rows: one text per column, the first naming the row; a row of one text alone heads the rows below it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def label(name: str) -> str:
    """A variant's name as a person writes it.

    ``int8-ort-x86`` is "INT8 (ort-x86)", ``int8_fast-ort-x86`` is "int8_fast (ort-x86)", ``fp32`` is "FP32".
    """
    found = re.fullmatch(r"((?:u?int|fp|bf)\d+)(?:-(.+))?", name)
    if found is not None:
        kind, rest = found.groups()
        return f"{kind.upper()} ({rest})" if rest else kind.upper()
    found = re.fullmatch(r"(.+)-(ort-x86|ort-arm64|tensorrt|pytorch)", name)
    return name if found is None else f"{found[1]} ({found[2]})"


def optional(show: Callable[[_T], str], value: _T | None) -> str:
    """``show(value)``, or a dash for nothing."""
    return DASH if value is None else show(value)


def percent(share: float) -> str:
    """A share in [0, 1] as "73.8%"."""
    return f"{100 * share:.1f}%"


def times(ratio: float) -> str:
    """A ratio as "1.38×"."""
    return f"{ratio:.2f}×"


def size(count: int) -> str:
    """Bytes in the largest unit that leaves at least 1."""
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"


def decimals(value: float) -> str:
    """About three significant digits, without an exponent, for times and rates."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else DASH
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 4
    return f"{value:.{digits}f}"


def plain(value: JsonValue) -> str:
    """Any JSON value in one line."""
    match value:
        case None:
            return DASH
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}" if math.isfinite(value) else decimals(value)
        case "Infinity" | "-Infinity" | "NaN":
            return decimals(float(str(value)))
        case list():
            return ", ".join(plain(item) for item in value) or "none"
        case dict():
            return ", ".join(f"{key}: {plain(item)}" for key, item in value.items()) or "none"
        case _:
            return str(value)
