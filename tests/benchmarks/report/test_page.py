"""The page in a real browser: Chromium, without a window, from a file."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.html import html_report
from benchmarks.report.runs import Run
from benchmarks.results import Summary
from tests.chromium import chromium

PATIENCE = 60_000  # ms; machines of CI are slow at times


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


class Seen:
    """A page that was opened, and what it said and asked for meanwhile."""

    def __init__(self, browser: Any, file: Path, **settings: Any) -> None:
        self.page = browser.new_page(**settings)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-ready]")

    def column(self, number: int) -> list[str]:
        cells = self.page.locator(f".sortable tbody td:nth-of-type({number})")
        return [text.split("\n")[0] for text in cells.all_inner_texts()]


@pytest.fixture
def file(tmp_path: Path, profiled: Run, twelve: Summary) -> Path:
    path = tmp_path / "report.html"
    path.write_text(html_report([Run("main", twelve, profiled.profiles)]), encoding="utf-8")
    return path


def brightness(color: str) -> float:
    red, green, blue = map(int, re.findall(r"\d+", color)[:3])
    return (red + green + blue) / 765


def test_twelve_variants_open_quickly_and_alone(browser: Any, file: Path) -> None:
    assert file.stat().st_size < 3_000_000
    seen = Seen(browser, file)
    assert seen.said == []
    assert seen.asked == [file.as_uri()]
    loaded = seen.page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert loaded < 5000  # a machine of one's own takes a tenth of it
    plots = seen.page.locator(".plot")
    assert plots.count() == 13
    for i in range(plots.count()):
        marks = plots.nth(i).locator(".mark-symbol path, .mark-rect path, .mark-area path")
        assert marks.count() > 0, plots.nth(i).get_attribute("data-chart")
    seen.page.close()


def test_a_click_or_a_key_sorts_and_gaps_stay_last(browser: Any, file: Path) -> None:
    seen = Seen(browser, file)
    title = seen.page.locator(".sortable thead tr:last-child th", has_text="Speed-up").first
    at = title.evaluate("cell => cell.cellIndex")
    before = seen.column(at)
    ratios = sorted(float(text[:-1]) for text in before if text != "–")
    title.locator("button").click()
    assert [*map(float, (t[:-1] for t in seen.column(at)[:-1]))] == ratios
    assert seen.column(at)[-1] == "–"
    assert title.get_attribute("aria-sort") == "ascending"
    title.locator("button").focus()
    seen.page.keyboard.press("Enter")
    assert [*map(float, (t[:-1] for t in seen.column(at)[:-1]))] == ratios[::-1]
    assert seen.column(at)[-1] == "–"
    assert seen.page.locator("[aria-sort]").count() == 1
    seen.page.close()


def told(seen: Seen, chart: str) -> str:
    """What the page says of a point in a chart; scrolling there hides what it said before."""
    place = seen.page.locator(chart)
    place.scroll_into_view_if_needed()
    seen.page.wait_for_timeout(200)
    place.hover(position={"x": 190, "y": 150})
    place.hover(position={"x": 200, "y": 150})
    tip = seen.page.locator("#tip")
    tip.wait_for(state="visible", timeout=5000)
    return str(tip.inner_text())


def test_what_is_under_the_pointer_is_told(browser: Any, file: Path) -> None:
    seen = Seen(browser, file)
    tip = seen.page.locator("#tip")
    assert tip.is_hidden()
    point = seen.page.locator("[data-chart=speedup-batch1-threads2] .mark-symbol path").nth(10)
    point.hover(force=True)
    assert "int8_symmetric (ort-x86)" in tip.inner_text()
    assert "slower" in tip.inner_text()
    words = told(seen, "[data-chart$=qsnr]").split("\n")
    assert words[0] in ("stem", "blocks.0.fc1", "head")
    assert {"40.5 dB", "30.2 dB", "28.0 dB", "41.0 dB", "38.0 dB"} & set(words)
    assert told(seen, "[data-chart$=sensitivity-kl]").split("\n")[0] in ("stem", "head")
    histogram = told(seen, "[data-chart$=values-1]")
    assert "undefined" not in histogram
    assert "Quantized" in histogram
    cell = seen.page.locator(".network [data-tip]").first
    cell.focus()
    seen.page.keyboard.press("ArrowRight")
    assert "blocks.0.mlp.fc1: quantized, but run in float" in tip.inner_text()
    seen.page.keyboard.press("Escape")
    assert tip.is_hidden()
    seen.page.close()


def test_a_phone_needs_no_sideways_scrolling(browser: Any, file: Path) -> None:
    seen = Seen(browser, file, viewport={"width": 375, "height": 700})
    seen.page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    wide = seen.page.evaluate("document.documentElement.scrollWidth")
    assert wide == 375
    table = seen.page.locator("#summary .scroll")
    assert table.evaluate("box => box.scrollWidth > box.clientWidth")
    for plot in seen.page.locator(".plot").all():
        assert plot.evaluate(
            "box => box.querySelector('svg').getBoundingClientRect().width <= box.clientWidth"
        )
    seen.page.close()


def test_dark_is_dark_and_the_button_turns_it(browser: Any, file: Path) -> None:
    seen = Seen(browser, file, color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    text = "getComputedStyle(document.querySelector('.plot .mark-text.role-mark text')).fill"
    assert brightness(seen.page.evaluate(ground)) < 0.15
    assert brightness(seen.page.evaluate(text)) > 0.8
    seen.page.locator("#theme").click()
    assert brightness(seen.page.evaluate(ground)) > 0.9
    assert brightness(seen.page.evaluate(text)) < 0.2
    seen.page.close()


def test_paper_has_every_section_open_and_light(browser: Any, file: Path) -> None:
    seen = Seen(browser, file, color_scheme="dark")
    count = "document.querySelectorAll('details:not([open]):not(.data)').length"
    seen.page.evaluate(f"addEventListener('beforeprint', () => {{ window.folded = {count} }})")
    assert seen.page.locator("details:not([open]):not(.data)").count() > 0
    pdf = seen.page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert pages > 4
    assert seen.page.evaluate("window.folded") == 0
    seen.page.set_viewport_size({"width": 703, "height": 1000})  # A4 between its margins
    seen.page.emulate_media(media="print", color_scheme="dark")
    seen.page.evaluate("for (const d of document.querySelectorAll('details:not(.data)')) d.open = true")
    boxes = "[...document.querySelectorAll('.scroll')]"
    cut = f"{boxes}.filter(box => box.scrollWidth > box.clientWidth + 1).length"
    assert seen.page.evaluate(cut) == 0
    assert brightness(seen.page.evaluate("getComputedStyle(document.querySelector('h2')).color")) < 0.2
    for section in ("summary", "charts", "audit", "stages", "figures", "method"):
        assert seen.page.locator(f"#{section}").is_visible()
    seen.page.close()
