"""The colours measured: contrast by WCAG, and distances as the colour-blind see them."""

from itertools import combinations
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.report.palette import concrete, palette

Color = NDArray[np.float64]
Theme = Literal["light", "dark"]
SERIES = [f"--series-{i}" for i in range(7)]

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
SEEN = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# Ottosson 2020, OKLab.
LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def linear(color: str) -> Color:
    c = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted((float(weights @ linear(a)), float(weights @ linear(b))))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_and_marks_stand_out(theme: Theme) -> None:
    colors = palette(theme)
    for ground in ("--page", "--surface"):
        for text in ("--ink", "--muted", "--win", "--loss", "--mixed"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)  # WCAG 2.2, 1.4.3
    for mark in [*SERIES, *(f"--width-{i}" for i in range(3))]:
        assert contrast(colors[mark], colors["--surface"]) >= 2.9, mark  # 1.4.11 asks for 3 of single signs


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("sight", SEEN)
def test_series_are_told_apart_with_any_colour_vision(theme: Theme, sight: str) -> None:
    colors = palette(theme)
    lab = [LAB @ np.cbrt(LMS @ np.clip(SEEN[sight] @ linear(colors[name]), 0, 1)) for name in SERIES]
    # 0.02 is just noticeable in OKLab; four times that is seen at the size of a point.
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(lab, 2)) > 0.08


def test_a_drawing_for_a_file_has_colours_of_its_own() -> None:
    assert concrete("a var(--ink) b var(--none)") == f"a {palette('light')['--ink']} b var(--none)"
    assert palette("light").keys() == palette("dark").keys()
