"""Turn a matplotlib figure into SVG that lives inside a page and takes the page's colours and fonts."""

import io
import re
from contextlib import AbstractContextManager

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["INK", "MUTED", "SERIES", "SURFACE", "drawing_style", "inline_svg"]

# Stand-ins: colours nobody would choose, drawn by matplotlib and replaced by variables of the page's style
# sheet, so that one drawing serves the light and the dark page.
INK, MUTED, SURFACE = "#010101", "#010102", "#010103"
SERIES = tuple(f"#0102{i:02x}" for i in range(6))
_VARIABLES = {INK: "--ink", MUTED: "--muted", SURFACE: "--surface"} | {
    color: f"--series-{i}" for i, color in enumerate(SERIES)
}


def drawing_style() -> AbstractContextManager[None]:
    """Settings to draw under: quiet axes in the stand-in colours."""
    return mpl.rc_context(
        {
            "svg.fonttype": "none",  # text stays text: searchable, and in the page's font
            "text.parse_math": False,  # a dollar sign in a name is a dollar sign
            "font.size": 11,
            "text.color": INK,
            "axes.labelcolor": MUTED,
            "axes.edgecolor": MUTED,
            "axes.facecolor": "none",
            "axes.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.spines.left": False,
            "axes.grid": True,
            "axes.grid.axis": "x",
            "axes.axisbelow": True,
            "grid.color": MUTED,
            "grid.alpha": 0.22,
            "grid.linewidth": 0.6,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "ytick.labelcolor": INK,
            "xtick.major.size": 0,
            "ytick.major.size": 0,
            "figure.facecolor": "none",
        }
    )


def inline_svg(figure: Figure, name: str, title: str) -> str:
    """The figure as one ``<svg>`` element; the same figure gives the same bytes.

    Args:
        figure: drawn under `drawing_style` and the colours of this module.
        name: unique on the page; prefixes every id.
        title: read out in place of the drawing.
    """
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"""(url\(|href=")#""", rf"\1#{name}-", svg)
    svg = re.sub(r"(font: [^;\"]*?[\d.]+px)[^;\"]*", r"\1 var(--sans)", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    opening, rest = svg.split(">", 1)
    opening = re.sub(r'\s(?:width|height)="[^"]*"', "", opening)
    return f'{opening} role="img" aria-label="{_attribute(title)}">{rest}'


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
