import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks.report.html import html_report
from benchmarks.report.runs import Run
from benchmarks.results import Summary, save_summary

ROOT = Path(benchmarks.__file__).parents[1]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags that balance, every id, and everything the page points at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._note(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src", "xlink:href"}:
                self.targets.append(value or "")
            self.targets += re.findall(r"url\(([^)]*)\)", value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text.append(data)


def page_of(summary: Summary) -> str:
    return html_report([Run("main", summary)])


def test_the_page_needs_nothing_from_outside(summary: Summary) -> None:
    text = page_of(summary)
    page = Page(text)
    assert page.targets
    assert all(t.startswith("#") and t[1:] in page.ids for t in page.targets)
    assert page.tags["link"] == page.tags["img"] == page.tags["iframe"] == 0
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style


def test_ids_are_unique_although_there_are_many_drawings(summary: Summary) -> None:
    page = Page(page_of(summary))
    assert page.tags["figure"] == 11  # four of accuracy and cost, three at each of two batch sizes, one audit
    assert [i for i, n in Counter(page.ids).items() if n > 1] == []


def test_every_drawing_has_its_specification_its_words_and_its_table(profiled: Run) -> None:
    text = html_report([profiled])
    specs = json.loads(re.search(r'id="specs">(.*?)</script>', text, re.DOTALL)[1])  # type: ignore[index]
    drawn = re.findall(r'role="img" aria-label="([^"]+)" data-chart="([^"]+)"', text)
    assert {name for _, name in drawn} == set(specs)
    assert all(len(words) > 20 for words, _ in drawn)
    assert text.count("The same as a table") == len(drawn)


def test_drawings_take_their_colours_from_the_page(profiled: Run) -> None:
    text = html_report([profiled])
    style, drawn = text[text.index("<style>") : text.index("</style>")], text[text.index('id="specs"') :]
    drawn = drawn[: drawn.index("</script>")]
    used = set(re.findall(r"var\((--[\w-]+)\)", drawn))
    assert {"--ink", "--muted", "--line", "--surface", "--series-0", "--series-1", "--width-0"} <= used
    for name in used:
        assert f"{name}: light-dark(" in style
    # A colour of Vega's own would not follow the page into the dark.
    assert (
        set(re.findall(r'"(?:fill|stroke|color|labelColor)":\{?"?(?:value"?:)?"(#\w+|black|white)"', drawn))
        == set()
    )


def test_the_page_says_what_came_out_and_how_to_repeat_it(summary: Summary) -> None:
    words = " ".join("".join(Page(page_of(summary)).text).split())
    for said in (
        "INT8 (ort-x86) is 1.38× faster than FP32 at batch 1",
        "exported and checked; not run here",
        summary.command,
        "the input <q> has two readers",
        "onnx vs simplified",
        "calibration.images",
    ):
        assert said in words


def test_text_from_models_cannot_become_markup(changed: Callable[..., Summary]) -> None:
    name = '</script><b>alert("$x^2$")</b>'
    plain, odd = (Page(page_of(changed(name=text, note="<i>&amp;"))) for text in ("plain", name))
    assert odd.tags == plain.tags
    assert any(name in text for text in odd.text)


@pytest.mark.parametrize(
    "missing", [("accuracy",), ("latency",), ("memory",), ("accuracy", "latency", "memory")]
)
def test_missing_figures_leave_a_whole_page(summary_dict: dict[str, Any], missing: tuple[str, ...]) -> None:
    for variant in summary_dict["variants"]:
        variant |= dict.fromkeys(missing)
    text = " ".join(Page(page_of(Summary.model_validate(summary_dict))).text)
    assert "None" not in text
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)


def test_one_image_of_one_class_and_one_call_still_draw(summary_dict: dict[str, Any]) -> None:
    for variant in summary_dict["variants"][:2]:
        variant["accuracy"] |= {"n": 1, "correct": 1, "top1": 1.0, "top5": None, "classes": 1}
        variant["accuracy"]["ci95"] = {"low": 0.2065, "high": 1.0}
        variant["latency"] = [
            entry | dict.fromkeys(("median_ms", "p90_ms", "p99_ms"), 3.0) | {"samples_ms": [3.0]}
            for entry in variant["latency"][:1]
        ]
    assert Page(page_of(Summary.model_validate(summary_dict))).tags["figure"] == 8


def test_the_same_summary_gives_the_same_bytes_in_another_process(tmp_path: Path, summary: Summary) -> None:
    save_summary(summary, tmp_path / "summary.json")
    code = (
        "import sys; from pathlib import Path; from benchmarks.results import load_summary\n"
        "from benchmarks.report.html import html_report; from benchmarks.report.runs import Run\n"
        "run = Run('main', load_summary(Path(sys.argv[1]) / 'summary.json'))\n"
        "(Path(sys.argv[1]) / 'report.html').write_bytes(html_report([run]).encode())"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo"},
    )
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page_of(summary)


def test_several_runs_are_told_apart(summary: Summary) -> None:
    words = " ".join("".join(Page(html_report([Run("before", summary), Run("after", summary)])).text).split())
    for said in ("before · INT8 (ort-x86)", "after · FP32", "against the reference of the same run"):
        assert said in words
