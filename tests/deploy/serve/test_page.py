"""The page at ``/`` in a real browser: Chromium, without a window, and a real server."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.chromium import chromium
from tests.deploy.serve.made import served
from tests.deploy.serve.page_seen import CLASSIFY, Made, Seen, answer_of, make, predicted, pretend
from tests.octavo.project import ROOT

ROUNDS = 5
REFUSED_REQUEST = "Failed to load resource"  # what Chromium itself says of each status of 4xx and 5xx


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def made(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Made:
    del browser  # where it skips, nothing is made
    return make(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def both(made: Made) -> Iterator[str]:
    with served(made.fp32.parent, str(made.int8), f"arrays={made.arrays}", str(made.fp32)) as server:
        yield f"http://127.0.0.1:{server.port}"


TWO = [
    {"name": "m-int8", "model": "m", "variant": "int8"},
    {"name": "m-fp32", "model": "m", "variant": "fp32"},
]


def test_with_the_keyboard_alone_both_answer_as_the_bundles_do(browser: Any, both: str, made: Made) -> None:
    seen = Seen(browser, both).open()
    page, image = seen.page, made.images[3]
    assert page.locator(".column h2").all_inner_texts() == ["FP32", "INT8"]
    assert seen.text("#note") == "Not asked, for they take no images: arrays."
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    assert page.evaluate("getComputedStyle(document.getElementById('zone')).outlineStyle") == "solid"
    with page.expect_file_chooser() as opened:
        page.keyboard.press("Enter")
    seen.mark()
    opened.value.set_files(image)
    seen.done()
    expected = predicted(made, image)
    assert [seen.answers(0), seen.answers(1)] == expected
    assert page.locator("#preview").evaluate("image => image.naturalWidth") == 8
    medians = []
    for column in page.locator(".column").all():
        (big,) = re.findall(r"[\d.]+", column.locator(".big").inner_text())
        found = re.fullmatch(r"median of 5, ([\d.]+)–([\d.]+)", column.locator(".range").inner_text())
        assert found
        assert 0 < float(found[1]) <= float(big) <= float(found[2])
        medians.append(float(big))
        parts = [float(text.removesuffix(" ms")) for text in column.locator("dd").all_inner_texts()]
        prepare, _, total, trip = parts
        assert prepare + float(big) <= 1.5 * total  # medians, each of its own
        assert total < trip
    verdict = seen.text("#verdict")
    same = expected[0][0][0] == expected[1][0][0]
    assert verdict.startswith(f"INT8 gives {'the same' if same else 'another'} top answer ")
    assert re.search(r"Its time in the model is \d+\.\d\d × FP32’s\.", verdict)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "again"
    seen.mark()
    page.keyboard.press("Space")
    seen.done()
    assert [seen.answers(0), seen.answers(1)] == expected
    seen.close()


def test_requests_follow_one_another_and_the_models_take_turns(browser: Any, both: str, made: Made) -> None:
    seen = Seen(browser, both).open()
    seen.choose(made.images[0])
    asked = [(url[0], re.search(r"(\w+)/classify", url)) for url in seen.asked]
    events = [(sign, found[1]) for sign, found in asked if found]
    starts, ends = events[::2], events[1::2]
    assert [sign for sign, _ in starts] == [">"] * 2 * (ROUNDS + 1)
    assert ends == [("<", name) for _, name in starts]
    names = [name for _, name in starts]
    assert names == ["fp32", "int8", "int8", "fp32"] * 3
    seen.close()


def test_a_drop_a_paste_and_a_drop_that_cancels(browser: Any, both: str, made: Made) -> None:
    seen = Seen(browser, both).open()
    seen.drop("drop", made.images[1], made.images[2])
    seen.done()
    assert [seen.answers(0), seen.answers(1)] == predicted(made, made.images[1])
    assert seen.text("#hint") == "The first of 2 files."
    seen.drop("paste", made.images[4])
    seen.done()
    assert [seen.answers(0), seen.answers(1)] == predicted(made, made.images[4])
    seen.drop("paste")
    assert "no image in the clipboard" in seen.text("#hint")

    held: list[Any] = []
    seen.page.route(CLASSIFY, lambda route: held.append(route), times=1)  # and so never answered
    with seen.page.expect_event("requestfailed") as gone:
        with seen.page.expect_request(CLASSIFY):
            seen.drop("drop", made.images[5])
        assert seen.text("#verdict").startswith("Asking")
        assert seen.page.locator(".answers .none").count() > 0
        seen.drop("drop", made.images[6])
    assert "classify" in gone.value.url
    seen.done()
    assert [seen.answers(0), seen.answers(1)] == predicted(made, made.images[6])
    assert (seen.text("#name"), seen.text("#problem"), len(held)) == (made.images[6].name, "", 1)
    seen.close()


def test_what_is_no_image_is_told_in_words_and_a_good_one_follows(
    browser: Any, both: str, made: Made, tmp_path: Path
) -> None:
    seen = Seen(browser, both).open()
    broken = tmp_path / "photo.webp"
    broken.write_bytes(b"RIFF")
    seen.choose(broken)
    assert seen.text("#problem") == "The server cannot use this file: the body is no JPEG or PNG image."
    assert "neither JPEG nor PNG" in seen.text("#hint")
    assert seen.page.locator("#preview").is_hidden()
    assert seen.text("#verdict") == "No answer."
    cut = tmp_path / "cut.png"
    cut.write_bytes(made.images[0].read_bytes()[:100])
    seen.choose(cut)
    assert "broken or truncated" in seen.text("#problem")
    seen.choose(made.images[0])
    assert (seen.text("#problem"), seen.text("#hint")) == ("", "")
    assert seen.answers(0) == predicted(made, made.images[0])[0]
    seen.said = [text for text in seen.said if not text.startswith(REFUSED_REQUEST)]
    seen.close()


def test_one_bundle_alone_and_an_image_too_large_for_its_server(
    browser: Any, made: Made, tmp_path: Path
) -> None:
    with served(tmp_path, str(made.int8), "--max-request-mib", "0.01") as server:
        seen = Seen(browser, f"http://127.0.0.1:{server.port}").open()
        seen.choose(made.images[0])
        assert seen.page.locator(".column").count() == 1
        assert seen.answers(0) == predicted(made, made.images[0])[1]
        assert seen.text("#verdict") == f"INT8 answers: {seen.answers(0)[0][0]}."
        assert "octavo serve fp32.zip int8.zip" in seen.text("#note")
        large = tmp_path / "large.png"
        noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
        Image.fromarray(noise).save(large)
        seen.choose(large)
        assert "Too large for the server: the body has more than the 10485 bytes" in seen.text("#problem")
        assert seen.text("#columns").count("no answer") == 1
        assert seen.said
        seen.said.clear()
    seen.mark()
    seen.page.click("#again")
    seen.done()
    assert "cannot be reached" in seen.text("#problem")
    assert seen.text("#again") == "Try again"
    seen.page.close()


def test_without_a_list_of_models_the_page_stays_of_use(browser: Any, both: str, made: Made) -> None:
    seen = Seen(browser, both)
    seen.page.route("**/v2/models", lambda route: route.abort("connectionrefused"), times=2)
    seen.open()
    assert seen.text("#problem") == "The server cannot be reached. Is it still running?"
    with seen.page.expect_event("requestfailed"):
        seen.page.click("#again")
    seen.choose(made.images[0])
    assert seen.text("#problem") == ""
    assert seen.answers(1) == predicted(made, made.images[0])[1]
    assert all(text.startswith(REFUSED_REQUEST) for text in seen.said)
    seen.page.close()


def test_a_busy_server_and_a_failing_one(browser: Any, both: str, made: Made) -> None:
    cases: list[tuple[int, Any, str]] = [
        (429, {"error": "64 requests are waiting"}, "The server is busy: 64 requests are waiting."),
        (503, {"error": "it is not ready yet"}, "The server cannot answer now: it is not ready yet."),
        (503, "Service Unavailable", "The server cannot answer now: status 503."),
        (500, {"error": "a bug"}, "The server answered with an error: a bug."),
        (200, "<html>", "The server answered with an error: status 200."),
    ]  # fmt: skip
    seen = Seen(browser, both)
    now: dict[str, tuple[int, Any]] = {}
    pretend(seen, TWO, lambda _: now["answer"])
    seen.open()
    for (status, body, words), image in zip(cases, made.images, strict=False):
        now["answer"] = (status, body)
        seen.choose(image)
        assert seen.text("#problem") == words
        assert seen.text("#verdict") == "No answer."
        assert seen.text("#again") == "Try again"
    seen.page.close()


def test_what_is_said_of_differences_and_of_noise(browser: Any, both: str, made: Made) -> None:
    seen = Seen(browser, both)
    nasty = "<img src=x onerror=alert(1)>"
    times = {
        "m-int8": iter([9.0, 3, 4, 5, 6, 7] * 2),
        "m-fp32": iter([1.0, 10, 10, 10, 11, 12, 1, 7, 7, 7, 7, 7]),
    }
    labels = {"m-int8": nasty, "m-fp32": "142"}

    def told(name: str) -> tuple[int, Any]:
        return 200, answer_of(name, labels[name], next(times[name]), batch_rows=2 if name == "m-int8" else 1)

    pretend(seen, TWO, told)
    seen.open()
    seen.choose(made.images[0])
    assert seen.text("#verdict") == (
        f"INT8 gives another top answer than FP32: {nasty} instead of class 142. "
        "Its time in the model is 0.50 × FP32’s."
    )
    assert seen.answers(0) == [("class 142", "75.0 %")]
    assert seen.answers(1) == [(nasty, "75.0 %")]
    assert seen.page.locator("img").count() == 1
    ranges = seen.page.locator(".range").all_inner_texts()
    assert ranges[0] == "median of 5, 10.0–12.0"
    assert ranges[1] == "median of 5, 3.0–7.0; 5 shared a batch with other requests"
    labels["m-int8"] = "142"
    seen.choose(made.images[1])
    assert seen.text("#verdict") == (
        "INT8 gives the same top answer as FP32: class 142. Its time in the model is 0.71 × FP32’s. "
        "The ranges of the 5 overlap, so this may be chance."
    )
    seen.close()


def test_a_model_that_fails_alone_leaves_the_other_its_answer(browser: Any, both: str, made: Made) -> None:
    seen = Seen(browser, both)
    refusal = 413, {"error": "the image would be resized to 9 × 9 pixels"}
    pretend(seen, TWO, lambda name: refusal if name == "m-int8" else (200, answer_of(name, "ant", 2.0)))
    seen.open()
    seen.choose(made.images[0])
    assert seen.text("#problem") == "Too large for the server: the image would be resized to 9 × 9 pixels."
    assert seen.text("#verdict") == "FP32 answers: ant."
    assert seen.page.locator(".answers").all_inner_texts()[1].strip() == "no answer"
    seen.page.close()


def test_a_phone_needs_no_sideways_scrolling_and_dark_is_dark(browser: Any, both: str, made: Made) -> None:
    viewport = {"width": 375, "height": 700}
    seen = Seen(browser, both, viewport=viewport, color_scheme="dark", reduced_motion="reduce").open()
    models = [
        TWO[1] | {"name": "m" * 128},
        TWO[0] | {"variant": "int8_per_channel_with_a_long_name_of_its_own"},
    ]
    pretend(seen, models, lambda name: (200, answer_of(name, "long" * 40, 1234.5)))
    seen.choose(made.images[0])
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 375
    ground = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", ground))) < 40
    assert seen.page.evaluate("getComputedStyle(document.getElementById('zone')).transitionDuration") == "0s"
    seen.close()


def test_the_colours_are_those_of_the_report() -> None:
    """So that both are one product; and the report's tests of contrast hold here, too."""
    pattern = re.compile(r"^  --([\w-]+): (.*);$", re.M)
    report, page = (
        dict(pattern.findall((ROOT / name).read_text()))
        for name in ("benchmarks/report/style.css", "deploy/serve/static/page.css")
    )
    assert len(page) > 10
    assert {name: report.get(name) for name in page} == page
