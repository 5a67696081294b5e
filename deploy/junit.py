"""JUnit XML, as CI systems read it (the Ant JUnit layout)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

__all__ = ["Case", "junit"]

# XML 1.0, section 2.2: no other characters may stand in a document, not even escaped.
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


@dataclass(frozen=True)
class Case:
    """One test case.

    Attributes:
        group: what it belongs to; CI systems list cases by it.
        name: within the group.
        failure: why it failed; None where it passed.
        said: more about one that passed.
        seconds: how long it took, where that is known.
    """

    group: str
    name: str
    failure: str | None = None
    said: str = ""
    seconds: float | None = None


def junit(suite: str, cases: Sequence[Case]) -> str:
    """One suite of test cases."""
    failures = sum(case.failure is not None for case in cases)
    about = {"tests": str(len(cases)), "failures": str(failures)}
    timed = [case.seconds for case in cases if case.seconds is not None]
    if timed:
        about["time"] = f"{sum(timed):.3f}"
    root = ElementTree.Element("testsuites", about)
    parent = ElementTree.SubElement(root, "testsuite", {"name": suite, **about})
    for case in cases:
        time = {} if case.seconds is None else {"time": f"{case.seconds:.3f}"}
        element = ElementTree.SubElement(
            parent, "testcase", {"classname": _clean(case.group), "name": _clean(case.name), **time}
        )
        if case.failure is not None:
            ElementTree.SubElement(element, "failure", {"message": _clean(case.failure)})
        elif case.said:
            ElementTree.SubElement(element, "system-out").text = _clean(case.said)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
