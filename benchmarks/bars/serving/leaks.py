"""Whether an answer tells what is nobody's business: paths, tracebacks, names of exceptions."""

import re
import sysconfig
from pathlib import Path

import octavo

__all__ = ["leak_in"]

_PLACES = {
    str(Path(octavo.__file__).parent),
    sysconfig.get_path("purelib"),
    sysconfig.get_path("stdlib"),
    str(Path.home()),
}
_TELLING = (
    *(re.escape(place) for place in sorted(_PLACES) if place != "/"),
    r"Traceback|File \"|site-packages|dist-packages|\.py\b|object at 0x|<class '",
    r"\b[A-Z]\w*(?:Error|Exception|Warning)\b",
)
_LEAK = re.compile("|".join(_TELLING))


def leak_in(text: str) -> str | None:
    """The first thing that an answer should not tell, or None."""
    found = _LEAK.search(text)
    return found[0] if found else None
