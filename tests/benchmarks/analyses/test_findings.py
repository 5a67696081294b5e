import csv
import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from benchmarks.analyses.findings import Findings, Table, read_findings, write_findings
from benchmarks.profile.drawing import Drawing, finished
from benchmarks.report.analyses import analysis_views, read_analyses
from benchmarks.report.svg import drawing_style
from quant.errors import BadInput, InternalError

ROWS = (("fc1", 8, 0.125, None), ("fc2", 4, math.inf, "left in float"))
TABLE = Table("layers", "Layers", ("layer", "bits", "error", "note"), ROWS, "A note.")


@pytest.fixture(scope="module")
def drawing() -> Drawing:
    with drawing_style():
        figure = Figure()
        figure.subplots().plot([1, 2], clip_on=True)
        return finished(figure, "line", "A line")


def test_what_is_written_is_read_back_and_tables_are_csv(tmp_path: Path, drawing: Drawing) -> None:
    found = Findings((TABLE,), (drawing,), {"mean": 1.5}, ("It works.",), "my analysis")
    write_findings(found, tmp_path / "mine")
    with (tmp_path / "mine" / "layers.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["layer", "bits", "error", "note"],
            ["fc1", "8", "0.125", ""],
            ["fc2", "4", "inf", "left in float"],
        ]
    back = read_findings(tmp_path / "mine")
    assert back.tables[0].rows == (ROWS[0], ("fc2", 4, "Infinity", "left in float"))
    assert (back.drawings, back.figures, back.remarks, back.title) == (
        *(found.drawings, found.figures, found.remarks, found.title),
    )


def test_a_row_too_short_or_two_parts_of_one_name_are_our_bug(tmp_path: Path, drawing: Drawing) -> None:
    short = Table("t", "T", ("a", "b"), (("x",),))
    with pytest.raises(InternalError, match="t: a row does not have 2 cells"):
        write_findings(Findings((short,)), tmp_path / "a")
    with pytest.raises(InternalError, match="one name: line, line"):
        write_findings(Findings(drawings=(drawing, drawing)), tmp_path / "b")


def test_the_report_reads_what_the_settings_name(tmp_path: Path) -> None:
    for label in ("one", "two"):
        write_findings(Findings((TABLE,)), tmp_path / "analyses" / label)
    settings = {"analyses": [{"name": "energy", "label": "two"}, {"name": "not_done"}]}
    assert list(read_analyses(tmp_path, settings)) == ["two"]
    (tmp_path / "analyses" / "two" / "summary.json").write_text("{}")
    with pytest.raises(BadInput, match="two: is not what an analysis left"):
        read_analyses(tmp_path, settings)


def test_drawings_on_a_page_keep_their_references_and_share_no_id(drawing: Drawing) -> None:
    views = [analysis_views({"mine": Findings(drawings=(drawing,))}, run)[0] for run in ("r0", "r1")]
    ids = [{part.split('"')[0] for part in view.drawings[0][1].split('id="')[1:]} for view in views]
    assert ids[0]
    assert ids[0].isdisjoint(ids[1])
    for view, own in zip(views, ids, strict=True):
        svg = str(view.drawings[0][1])
        used = {part.split(")")[0] for part in svg.split("url(#")[1:]}
        assert used
        assert used <= own
        assert "<style" not in svg
