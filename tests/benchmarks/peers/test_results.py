import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from benchmarks.peers.environments import interpreter_path
from benchmarks.peers.made import made_peers
from benchmarks.peers.registry import PEERS
from benchmarks.peers.results import PeerResults, load_peers, save_peers
from benchmarks.peers.show import failures, peer_grid
from benchmarks.results import Variant
from quant.errors import BadInput


@pytest.fixture
def stored(summary_dict: dict[str, Any]) -> dict[str, Any]:
    """Two peers beside the summary's float model: one that was made, and one that failed."""
    reference, quantized, _ = summary_dict["variants"]
    variant = {**quantized, "name": "ort-dynamic", "target": "onnxruntime", "file": "ort-dynamic/model.onnx"}
    about = {"tool": "T", "settings": "defaults", "backend": "onnxruntime"}
    return {
        "created": "2026-11-20T10:15:00Z",
        "command": "python -m benchmarks.peers runs/vit",
        "model": "vit_tiny_patch16_224",
        "data": "344 images (csv)",
        "calibration": "256 images (csv)",
        "inputs": "abc",
        "environment": summary_dict["environment"],
        "reference": reference,
        "peers": [
            {**about, "name": "ort-dynamic", "variant": variant, "versions": {"onnxruntime": "1.31.1"}},
            {**about, "name": "nncf-openvino", "backend": "openvino", "failure": "no network"},
        ],
    }


def test_what_is_saved_is_read_back(stored: dict[str, Any], tmp_path: Path) -> None:
    results = PeerResults.model_validate(stored)
    save_peers(results, tmp_path / "peers.json")
    assert load_peers(tmp_path / "peers.json") == results
    assert [peer.name for peer in results.made] == ["ort-dynamic"]


@pytest.mark.parametrize(
    ("peer", "change", "message"),
    [
        (0, {"failure": "also failed"}, "ort-dynamic: needs a variant or the reason"),
        (1, {"failure": None}, "nncf-openvino: needs a variant or the reason"),
        (0, {"name": "other"}, "other: its variant is called 'ort-dynamic'"),
        (1, {"name": "ort-dynamic"}, "names must differ, got fp32, ort-dynamic, ort-dynamic"),
        (1, {"name": "fp32"}, "names must differ"),
        (0, {"backend": "tensorrt"}, "Input should be 'onnxruntime' or 'openvino'"),
        (0, {"seconds": -1}, "greater than or equal to 0"),
        (0, {"speed": 3}, "Extra inputs are not permitted"),
    ],
)
def test_contradictions_are_refused(
    stored: dict[str, Any], peer: int, change: dict[str, Any], message: str
) -> None:
    stored["peers"][peer] |= change
    with pytest.raises(ValidationError, match=message):
        PeerResults.model_validate(stored)


def test_peers_judged_on_other_images_are_refused(stored: dict[str, Any]) -> None:
    variant = copy.deepcopy(stored["peers"][0]["variant"])
    variant["accuracy"]["n"] = 100
    stored["peers"][0]["variant"] = variant
    with pytest.raises(ValidationError, match="judged on the same images"):
        PeerResults.model_validate(stored)


def test_a_file_that_cannot_be_read_says_what_to_do(stored: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    with pytest.raises(BadInput, match=r"peers.json: No such file.*python -m benchmarks.peers RUN"):
        load_peers(path)
    path.write_text(json.dumps(stored)[:50])
    with pytest.raises(BadInput, match=r"layout 1"):
        load_peers(path)
    del stored["model"]
    path.write_text(json.dumps(stored))
    with pytest.raises(BadInput, match="model: Field required"):
        load_peers(path)


def test_the_table_has_ours_above_the_peers_and_reasons_below(
    stored: dict[str, Any], summary_dict: dict[str, Any]
) -> None:
    results = PeerResults.model_validate(stored)
    ours = Variant.model_validate(summary_dict["variants"][1])
    not_run = Variant.model_validate(summary_dict["variants"][2])
    grid = peer_grid(results, [ours, not_run])
    assert [row[0] for row in grid.rows] == [
        "fp32",
        "int8-ort-x86",
        "Other tools",
        "ort-dynamic",
        "nncf-openvino",
    ]
    cells = dict(zip(grid.head, grid.rows[3], strict=True))
    # 254 of 344 right before, 251 after: 0.87 points.
    assert (cells["Drop, points"], cells["Same answer"], cells["Logit SQNR"]) == ("0.87", "94.5%", "21.7 dB")
    assert cells["Right / wrong"] == "+4 / −7"
    assert (cells["Integer share"], cells["… linear, conv"]) == ("90.0%", "93.8%")  # 900 of 1000, of 960
    assert grid.rows[0][2] == "–"
    assert grid.rows[4][1:3] == ("failed", "–")
    assert failures(results) == ("nncf-openvino could not be made: no network",)


def test_variants_judged_on_other_images_are_not_beside_the_peers(
    stored: dict[str, Any], summary_dict: dict[str, Any]
) -> None:
    other = copy.deepcopy(summary_dict["variants"][1])
    other["accuracy"]["n"] = 1000
    grid = peer_grid(PeerResults.model_validate(stored), [Variant.model_validate(other)])
    assert "int8-ort-x86" not in [row[0] for row in grid.rows]


def test_made_peers_are_listed_with_what_runs_them(
    stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_PEERS", str(tmp_path / "cache"))
    variant = stored["peers"][0]["variant"]
    stored["peers"][1] |= {
        "failure": None,
        "variant": {**variant, "name": "nncf-openvino", "file": "nncf-openvino/model.xml"},
    }
    save_peers(PeerResults.model_validate(stored), tmp_path / "peers.json")
    files = [tmp_path / "ort-dynamic" / "model.onnx", tmp_path / "nncf-openvino" / "model.xml"]
    for file in files:
        with pytest.raises(BadInput, match=r"is gone; run `python -m benchmarks.peers RUN` again"):
            made_peers(tmp_path)
        file.parent.mkdir()
        file.touch()
    with pytest.raises(BadInput, match="the environment of nncf-openvino is gone"):
        made_peers(tmp_path)
    python = interpreter_path(PEERS["nncf-openvino"].requirements, tmp_path / "cache")
    python.parent.mkdir(parents=True)
    python.touch()
    ort, nncf = made_peers(tmp_path)
    assert (ort.name, ort.backend, ort.model) == ("ort-dynamic", "onnxruntime", files[0])
    assert ort.python != python
    assert (nncf.backend, nncf.model, nncf.python) == ("openvino", files[1], python)
