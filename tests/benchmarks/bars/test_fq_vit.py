"""The bars of FQ-ViT, from the figures of its runs."""

import pytest

from benchmarks.analyses.findings import Findings, Table
from benchmarks.bars.fq_vit import ablation_bars, deploy_bars, full_bars, table_of
from benchmarks.bars.fq_vit import main as measure


def row(top1: float, cosine: float = 0.97, qsnr: float = 14.0) -> dict[str, float]:
    return {"top1": top1, "drop": 0.81 - top1, "agreement": 0.9, "cosine": cosine, "layer_qsnr_db": qsnr}


ABLATION = {
    "minmax_layer": row(0.0),
    "kl_layer": row(0.6),
    "omse_channel": row(0.795),  # not layer-wise
    "ptf_uniform4": row(0.08),
    "ptf_log2_4": row(0.66),
    "fq_vit": row(0.80),
}
FULL = {"fq_vit": row(0.80)}
DEPLOY = {"int8": row(0.805, 0.996, 23.0)}
Figures = dict[str, dict[str, float]]


def reached(ablation: Figures, full: Figures, deploy: Figures) -> list[bool]:
    return [bar.reached for bar in (*deploy_bars(deploy), *full_bars(full), *ablation_bars(ablation))]


@pytest.mark.parametrize(
    ("place", "ablation", "full", "deploy"),
    [
        (0, {}, {}, {"int8": row(0.803, 0.996)}),
        (1, {}, {}, {"int8": row(0.805, 0.994)}),
        (2, {}, {}, {"int8": row(0.805, 0.996, 10.4)}),
        (3, {}, {"fq_vit": row(0.797)}, {}),
        (4, {}, {"fq_vit": row(0.80, 0.954)}, {}),
        (5, {}, {"fq_vit": row(0.80, qsnr=10.4)}, {}),
        (6, {"kl_layer": row(0.71)}, {}, {}),
        (7, {"ptf_log2_4": row(0.57)}, {}, {}),
    ],
)
def test_every_bar_is_missed_for_its_own_reason(
    place: int, ablation: Figures, full: Figures, deploy: Figures
) -> None:
    assert reached(ABLATION, FULL, DEPLOY) == [True] * 8
    found = reached(ABLATION | ablation, FULL | full, DEPLOY | deploy)
    assert [i for i, fine in enumerate(found) if not fine] == [place]


def test_the_table_is_the_analysis() -> None:
    table = Table("recipes", "", ("recipe", "top-1, %"), (("int8", 80.814), ("fq_vit", None)))
    assert table_of(Findings((table,))).splitlines()[2:] == ["| int8 | 80.81 |", "| fq_vit | – |"]


def test_a_folder_without_the_run_ends_in_one_line(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fq_vit", "--read", "--out", str(tmp_path)])
    assert measure() == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
