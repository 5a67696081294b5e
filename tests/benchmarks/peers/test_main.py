import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.peers import run
from benchmarks.peers.__main__ import main
from benchmarks.peers.registry import Peer
from tests.octavo.project import Project

Add = Callable[..., Peer]


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "make_interpreter", lambda *_: Path(sys.executable))
    monkeypatch.setenv("COLUMNS", "200")


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    said = capsys.readouterr()
    (line,) = (line for line in said.err.splitlines() if line.startswith("octavo: "))
    assert said.out == ""
    assert "Traceback" not in said.err
    for word in words:
        assert word in line


def test_the_table_and_the_reasons_are_printed(
    exported: Project, add_peer: Add, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_peer("good")
    add_peer("bad", do="fail")
    names = ["--peer", "good", "--peer", "bad", "--out", str(tmp_path / "out")]
    assert main([str(exported.out), *names]) == 0
    said = capsys.readouterr().out
    assert "good" in said
    assert "100.0%" in said
    assert "bad could not be made: ValueError: no such operator" in said
    assert main([str(exported.out), *names, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [peer["name"] for peer in found["peers"]] == ["good", "bad"]


def test_bad_input_is_one_line_and_exit_code_2(
    exported: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    refused(capsys, "nowhere", "not the folder of a run")
    assert main([str(exported.out), "--peer", "ort-statc"]) == 2
    refused(capsys, "no peer 'ort-statc'", "did you mean 'ort-static'")
    (tmp_path / "file").touch()
    assert main([str(exported.out), "--peer", "ort-dynamic", "--out", str(tmp_path / "file" / "out")]) == 2
    refused(capsys, "file")
