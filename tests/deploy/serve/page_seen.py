"""The page as a test sees it, in a browser; the bundles behind it, and a server that only pretends."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from PIL import Image

from deploy.bundle import load_bundle
from tests.deploy.serve.made import classifier, make_bundle

PATIENCE = 60_000  # ms; machines of CI are slow at times
CLASSIFY = "**/classify?**"


@dataclass(frozen=True)
class Made:
    """A model of images in FP32 and in INT8, one of arrays, and images."""

    fp32: Path
    int8: Path
    arrays: Path
    images: list[Path]


def make(folder: Path) -> Made:
    """Write them; INT8 is FP32 with rounded weights, so that answers differ a little."""
    rng = np.random.default_rng(0)
    rounded = onnx.load_from_string(classifier())
    (weights,) = rounded.graph.initializer
    coarse = np.round(2 * numpy_helper.to_array(weights)) / 2
    weights.CopyFrom(numpy_helper.from_array(coarse, weights.name))
    images = [folder / f"{i}.png" for i in range(8)]
    for image in images:
        # Dim, so that the scores are not all 0 and 1.
        Image.fromarray(rng.integers(96, 160, (8, 8, 3), dtype=np.uint8)).save(image)
    return Made(
        make_bundle(folder / "fp32.zip", variant="fp32"),
        make_bundle(folder / "int8.zip", model=rounded.SerializeToString()),
        make_bundle(folder / "arrays.zip", images=False, size=(4,)),
        images,
    )


class Seen:
    """The page, opened, and what it said and asked for meanwhile."""

    def __init__(self, browser: Any, address: str, **settings: Any) -> None:
        self.page = browser.new_page(**settings)
        self.address = address
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.set_default_timeout(PATIENCE)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(f"> {request.url}"))
        self.page.on("filechooser", lambda _: None)  # from now on none opens a window, which takes a moment
        self.page.on("requestfinished", lambda request: self.asked.append(f"< {request.url}"))

    def open(self) -> "Seen":
        self.page.goto(self.address)
        self.page.wait_for_selector(".column, .problem:not(:empty)")
        return self

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector)).replace("\u00a0", " ")

    def choose(self, file: Path) -> None:
        self.mark()
        self.page.set_input_files("#file", file)
        self.done()

    def mark(self) -> None:
        """Tell what is said now from what will be said next."""
        self.page.evaluate("document.querySelector('#verdict p').dataset.old = ''")

    def done(self) -> None:
        """Wait for what follows the mark to end. By a selector: the page's policy forbids `eval`."""
        self.page.wait_for_selector("#results[aria-busy=false]:has(#verdict p:not([data-old]))")

    def drop(self, event: str, *files: Path) -> None:
        """Drop files, or paste them, onto the page."""
        contents = [[file.name, list(file.read_bytes())] for file in files]
        self.mark()
        self.page.evaluate(
            """([name, files]) => {
                const data = new DataTransfer();
                for (const [name, bytes] of files) {
                    data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
                }
                const told = { bubbles: true, cancelable: true };
                const event = name === "paste"
                    ? new ClipboardEvent(name, { ...told, clipboardData: data })
                    : new DragEvent(name, { ...told, dataTransfer: data });
                document.querySelector("main").dispatchEvent(event);
            }""",
            [event, contents],
        )

    def answers(self, number: int) -> list[tuple[str, str]]:
        rows = self.page.locator(".column").nth(number).locator(".answers li").all()
        return [(row.locator(".label").inner_text(), row.locator(".percent").inner_text()) for row in rows]

    def close(self) -> None:
        """Nothing went wrong, and nobody else was asked."""
        others = [url for url in self.asked if not url[2:].startswith((self.address, "blob:"))]
        assert (self.said, others) == ([], [])
        self.page.close()


def percent(score: float) -> str:
    if 0 < score < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < score < 1 else f"{100 * score:.1f} %"


def predicted(made: Made, image: Path) -> list[list[tuple[str, str]]]:
    """What both columns must show, from the bundles themselves."""
    columns = []
    for path in (made.fp32, made.int8):
        bundle = load_bundle(path)
        with bundle.runner() as runner:
            (answers,) = bundle.predict(runner, [image], top=5)
        columns.append([(answer.label, percent(answer.score)) for answer in answers])
    return columns


def answer_of(name: str, label: str, infer: float, **more: Any) -> dict[str, Any]:
    """An answer of the server to an image."""
    answers = [{"index": int(label) if label.isdigit() else 7, "label": label, "score": 0.75}]
    times = {"prepare": 1.0, "queue": 0.05, "infer": infer, "total": infer + 2.0}
    return {"model_name": name, "variant": name, "answers": answers, "batch_rows": 1, "ms": times} | more


def pretend(seen: Seen, models: list[dict[str, Any]], answer: Callable[[str], tuple[int, Any]]) -> None:
    """Answer in the server's place: these models, and for each request of one a status and a body."""
    told = [{"target": "ort-x86", "images": True, "digest": "0" * 64} | model for model in models]

    def classify(route: Any) -> None:
        status, body = answer(re.search(r"models/([^/]+)/", route.request.url).group(1))  # type: ignore[union-attr]
        kind = "text/plain" if isinstance(body, str) else "application/json"
        route.fulfill(
            status=status, content_type=kind, body=body if isinstance(body, str) else json.dumps(body)
        )

    seen.page.route("**/v2/models", lambda route: route.fulfill(json={"models": told}))
    seen.page.route(CLASSIFY, classify)
