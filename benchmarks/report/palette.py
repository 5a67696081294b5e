"""The colours of the style sheet, read from it so that there is one place for them."""

import re
from functools import cache
from importlib.resources import files
from typing import Literal

__all__ = ["concrete", "palette", "stylesheet"]

_PAIR = re.compile(r"(--[\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)")


@cache
def stylesheet() -> str:
    """The page's style sheet."""
    return (files("benchmarks.report") / "style.css").read_text(encoding="utf-8")


@cache
def palette(theme: Literal["light", "dark"]) -> dict[str, str]:
    """Variable to colour, e.g. ``--ink`` to ``#22201c``."""
    return {name: dark if theme == "dark" else light for name, light, dark in _PAIR.findall(stylesheet())}


def concrete(text: str, theme: Literal["light", "dark"] = "light") -> str:
    """The text with each ``var(--name)`` replaced by its colour, for readers without a style sheet."""
    colors = palette(theme)
    return re.sub(r"var\((--[\w-]+)\)", lambda found: colors.get(found[1], found[0]), text)
