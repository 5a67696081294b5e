import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.report.charts import Chart, chart_groups
from benchmarks.report.charts.render import png
from benchmarks.report.palette import palette
from benchmarks.report.runs import Run
from benchmarks.results import Summary


def charts(*runs: Run) -> dict[str, Chart]:
    return {chart.name: chart for group in chart_groups(runs) for chart in group.charts}


def values(chart: Chart) -> list[dict[str, Any]]:
    return list(chart.spec["data"]["values"])


def test_a_variant_keeps_its_colour(twelve: Summary) -> None:
    seen: dict[str, set[str]] = {}
    for chart in charts(Run("main", twelve)).values():
        for row in values(chart):
            seen.setdefault(row["name"], set()).add(row["color"])
    assert len(seen) == 12
    assert all(len(colors) == 1 for colors in seen.values())


def test_times_of_two_runs_never_share_a_drawing(summary: Summary) -> None:
    found = charts(Run("a", summary), Run("b", summary))
    for name, chart in found.items():
        runs = {row["name"].split(" · ")[0] for row in values(chart)}
        timed = name.startswith(("speedup", "latency", "accuracy-latency", "memory"))
        assert runs == ({"a"} if "-a-" in f"{name}-" else {"b"}) if timed else runs == {"a", "b"}
    assert {"speedup-a-batch1-threads2", "speedup-b-batch4-threads2", "accuracy", "size"} <= set(found)


def test_the_front_is_marked_and_named(summary: Summary) -> None:
    chart = charts(Run("main", summary))["accuracy-latency-batch1-threads2"]
    # FP32 is more accurate and slower: neither beats the other.
    assert {row["name"]: row["front"] for row in values(chart)} == {"FP32": "yes", "INT8 (ort-x86)": "yes"}
    assert "(INT8 (ort-x86), FP32)" in chart.caption


def test_a_loss_is_called_one(twelve: Summary) -> None:
    chart = charts(Run("main", twelve))["speedup-batch1-threads2"]
    verdicts = {row["name"]: row["verdict"] for row in values(chart)}
    assert verdicts["INT8 (ort-x86)"] == "faster"
    assert verdicts["int8_symmetric (ort-x86)"] == "slower"
    assert "slower" in chart.alt


def test_layers_without_error_are_counted_and_not_drawn(profiled: Run) -> None:
    chart = charts(profiled)["layers-int8-ort-x86-qsnr"]
    assert "1 layers without any error" in chart.caption
    assert {row["layer"] for row in values(chart)} == {"stem", "blocks.0.fc1", "head"}
    assert [row[2] for row in chart.grid.rows] == ["40.5 dB", "30.2 dB", "∞ dB", "28.0 dB"]
    assert "lowest is 28.0 dB, of head" in chart.alt
    json.dumps(chart.spec, allow_nan=False)


def test_a_zero_has_no_place_on_a_logarithmic_axis(profiled: Run) -> None:
    chart = charts(profiled)["layers-int8-ort-x86-sensitivity-kl"]
    assert len(values(chart)) == 3
    assert "1 figures of zero" in chart.caption
    assert chart.grid.rows == (("stem", "0.5", "0.001"), ("head", "0.25", "0"))


@pytest.mark.parametrize("name", ["accuracy-size", "layers-int8-ort-x86-values-1"])
def test_a_picture_shows_its_colours_on_the_light_ground(profiled: Run, name: str) -> None:
    data = png(charts(profiled)[name])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    height, width, _ = pixels.shape
    assert 1280 <= width <= 1400
    assert height > 400
    seen = {"#" + bytes(p).hex() for p in np.unique(pixels.reshape(-1, 3), axis=0).astype(np.uint8)}
    assert {palette("light")["--surface"], palette("light")["--series-1"]} <= seen
    assert png(charts(profiled)[name]) == data
