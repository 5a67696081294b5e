"""Tables in Markdown."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["escape", "markdown_table"]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown; all columns but the first are aligned to the right."""
    lines = [_line(head), _line((":--", *("--:" for _ in head[1:]))), *map(_line, rows)]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Keep Markdown from reading names as markup, and a cell in its column."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
