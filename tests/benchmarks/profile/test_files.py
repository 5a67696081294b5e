import csv
import json
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.profile.correlation import rank_correlations
from benchmarks.profile.files import replace_folder, write_profile
from benchmarks.profile.rows import COLUMNS, METRICS, rows
from benchmarks.profile.sensitivity import draw_pareto, draw_sensitivity
from quant.profile import (
    BlockProfile,
    Comparison,
    EndToEnd,
    InputProfile,
    Isolated,
    LayerProfile,
    OutlierLine,
    Profile,
    WeightProfile,
)
from quant.profile.histogram import Histogram

SVG = "{http://www.w3.org/2000/svg}"
DRAWINGS = [
    *("block_qsnr", "correlation", "cosine_layers", "histograms", "mse_layers", "outlier_ratio"),
    *("qsnr_distribution", "qsnr_layers", "weight_sqnr"),
]


def output(i: int, rng: np.random.Generator) -> Comparison:
    counts = rng.integers(0, 50, (2, 4096))
    counts[:, :1800] = counts[:, 2300:] = 0
    share = 0.001 * (i + 1)
    return Comparison(40.0 - i, 0.001 * 2.0**i, 0.99, 1e-4 * i, share, 1.1 * share, Histogram(0.01, *counts))


def layers(count: int) -> tuple[LayerProfile, ...]:
    rng = np.random.default_rng(0)
    quantized = [
        LayerProfile(
            name=f"blocks.{i}.fc<1>",
            kind="linear",
            output=output(i, rng),
            isolated=Isolated(*rng.random(3)),
            weight=WeightProfile(8, "per_channel", float(40 + rng.random())),
            input=InputProfile("gelu", 8, *(float(v) for v in rng.random(4) + 1)),
        )
        for i in range(count)
    ]
    source = replace(quantized[0].input, bits=None)
    head = LayerProfile("head", "linear", output(count, rng), Isolated(math.inf, 0.0, 0.0), None, source)
    return (*quantized, head)


@pytest.fixture(scope="module")
def profile() -> Profile:
    found = layers(6)
    blocks = tuple(BlockProfile(f"blocks.{i}", layer.output) for i, layer in enumerate(found[:3]))
    return Profile(32, found, blocks, EndToEnd(21.0, 0.97, 0.998, 0.01), OutlierLine(1.1, 0.0, 1.0))


@pytest.fixture(scope="module")
def written(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "profile"
    write_profile(profile, folder, {"model": "m", "recipe": "r"})
    return folder


def test_the_table_holds_every_layer_and_block(profile: Profile, written: Path) -> None:
    with (written / "statistics.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == list(COLUMNS)
    assert [row["name"] for row in table] == [x.name for x in (*profile.layers, *profile.blocks)]
    assert float(table[2]["mse"]) == profile.layers[2].output.mse
    assert float(table[2]["weight_share"]) == profile.layers[2].isolated.weight_share
    head, block = table[6], table[7]
    assert head["isolated_qsnr_db"] == "inf"
    assert head["weight_sqnr_db"] == head["weight_share"] == ""
    assert block["kind"] == "block"
    assert block["isolated_qsnr_db"] == ""


def test_the_summary_is_strict_json_with_the_worst_layer_and_what_to_try(
    profile: Profile, written: Path
) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = (written / "summary.json").read_text()
    summary = json.loads(text, parse_constant=refuse)
    assert summary["model"] == "m"
    assert summary["images"] == 32
    assert summary["end_to_end"]["agreement"] == 0.97
    worst = min(profile.layers, key=lambda layer: layer.isolated.qsnr_db)
    assert summary["worst"][0]["name"] == worst.name
    assert summary["findings"][0]["layer"] == worst.name
    assert summary["qsnr_db"] == {"min": 34.0, "median": 37.0, "mean": 37.0, "max": 40.0}
    assert len(summary["blocks"]) == 3


def test_every_drawing_is_a_document_that_shows_its_data(profile: Profile, written: Path) -> None:
    files = sorted((written / "plots").iterdir())
    assert [file.stem for file in files] == DRAWINGS
    texts = {}
    for file in files:
        root = ElementTree.parse(file).getroot()
        assert root.tag == f"{SVG}svg"
        texts[file.stem] = ["".join(node.itertext()).strip() for node in root.iter(f"{SVG}text")]
        assert "--series-1" in (style := root.findtext(f"{SVG}style") or "")
        assert "color-scheme: light dark" in style
    assert "blocks.5.fc<1>" in texts["mse_layers"]
    assert "10⁻²" in texts["mse_layers"]
    assert "slope 1.100, R² 1.000" in texts["outlier_ratio"]
    worst = min(profile.layers, key=lambda layer: layer.isolated.qsnr_db)
    assert worst.name in texts["histograms"]
    assert not [text for group in texts.values() for text in group if "mathdefault" in text]


def test_the_same_profile_gives_the_same_bytes(profile: Profile, written: Path, tmp_path: Path) -> None:
    write_profile(profile, tmp_path / "again", {"model": "m", "recipe": "r"})
    files = [file for file in written.rglob("*") if file.is_file()]
    assert len(files) == 3 + len(DRAWINGS)
    for file in files:
        assert file.read_bytes() == (tmp_path / "again" / file.relative_to(written)).read_bytes()


def test_a_model_of_one_float_layer_can_be_drawn(profile: Profile, tmp_path: Path) -> None:
    nan = float("nan")
    single = Profile(1, profile.layers[-1:], (), profile.end_to_end, OutlierLine(nan, nan, nan))
    write_profile(single, tmp_path / "profile", {})
    found = {file.stem for file in (tmp_path / "profile" / "plots").iterdir()}
    assert found == {"qsnr_distribution", "qsnr_layers", "mse_layers", "cosine_layers", "outlier_ratio"}
    assert json.loads((tmp_path / "profile" / "summary.json").read_text())["outliers"]["slope"] == "NaN"


def test_a_folder_is_replaced_whole_or_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    replace_folder(folder, lambda new: (new / "old.txt").write_text("old") and None)

    def broken(new: Path) -> None:
        (new / "half.txt").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace_folder(folder, broken)
    assert [file.name for file in tmp_path.rglob("*")] == ["profile", "old.txt"]
    replace_folder(folder, lambda new: (new / "new.txt").write_text("new") and None)
    assert [file.name for file in tmp_path.rglob("*")] == ["profile", "new.txt"]


def test_correlations_are_spearmans_over_the_layers_that_have_both(profile: Profile) -> None:
    names, found = rank_correlations(profile)
    table = rows(profile)[: len(profile.layers)]
    assert set(names) == set(METRICS) - {"cosine"}  # equal in all layers
    for i, first in enumerate(names):
        for j, second in enumerate(names):
            pairs = [(row[first], row[second]) for row in table if None not in (row[first], row[second])]
            finite = np.array([pair for pair in pairs if np.isfinite(pair).all()])
            assert found[i, j] == pytest.approx(spearmanr(finite[:, 0], finite[:, 1]).statistic, abs=1e-12)


def test_given_sensitivities_and_fronts_are_drawn() -> None:
    bars = draw_sensitivity({"fc1": {4: 1e-2, 8: 1e-4}, "fc2": {4: 3e-2, 8: 0.0}}, "KL, nats")
    front = draw_pareto([(3.0, 0.1), (1.0, 0.5)], {"uniform <8>": (2.5, 0.3)}, "weights, MiB", "loss")
    texts = [
        [
            "".join(node.itertext()).strip()
            for node in ElementTree.fromstring(d.svg.encode()).iter(f"{SVG}text")
        ]
        for d in (bars, front)
    ]
    assert {"fc1", "fc2", "4 bits", "8 bits", "KL, nats"} <= set(texts[0])
    assert {"uniform <8>", "weights, MiB", "loss"} <= set(texts[1])


def test_the_axis_of_a_sensitivity_says_what_it_is_and_what_is_missing() -> None:
    whole = draw_sensitivity({"fc1": {4: 1e-2, 8: 1e-4}}, "fisher").svg
    noisy = draw_sensitivity({"fc1": {4: 1e-2, 8: -1e-4}}, "hessian").svg
    assert "estimated KL divergence, nats" in whole
    assert "mean Hessian trace" in noisy
    assert "left out" in noisy
    assert "left out" not in whole


def test_correlations_of_both_signs_look_different(written: Path) -> None:
    drawn = (written / "plots" / "correlation.svg").read_text(encoding="utf-8")
    assert "var(--series-1)" in drawn
    assert "var(--series-2)" in drawn
