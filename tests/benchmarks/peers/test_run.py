import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static

from benchmarks.harness.status import read_status
from benchmarks.peers.make import FLOAT_MODEL, IMAGES
from benchmarks.peers.process import PeerFailed
from benchmarks.peers.registry import Peer
from benchmarks.peers.results import PeerResult, PeerResults, load_peers
from benchmarks.peers.run import make_peers
from deploy.pipeline.line import open_run
from quant.data.batches import batches
from quant.errors import BadInput
from tests.octavo.project import Project

Add = Callable[..., Peer]


def ours(peer: Peer) -> Path:
    """Our own interpreter: no network, no environment."""
    del peer
    return Path(sys.executable)


def made(project: Project, out: Path, *names: str, **more: Any) -> PeerResults:
    return make_peers(project.out, names, out, interpreter=ours, **more)


def only(results: PeerResults, name: str) -> PeerResult:
    (found,) = (peer for peer in results.peers if peer.name == name)
    return found


def calls(path: Path) -> int:
    return len(path.read_text().split()) if path.exists() else 0


def test_a_peer_that_copies_the_float_model_answers_like_it(
    exported: Project, add_peer: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    add_peer("copy", keep=str(tmp_path / "seen.npy"))
    results = made(exported, tmp_path / "out", "copy")
    peer = only(results, "copy")
    assert peer.failure is None
    assert peer.variant is not None
    accuracy = peer.variant.accuracy
    assert accuracy is not None
    assert (accuracy.n, accuracy.agreement, accuracy.sqnr_db) == (12, 1.0, float("inf"))
    assert peer.variant.size_ratio == 1.0
    assert peer.variant.audit is not None
    assert peer.variant.audit["total_share"] == 0.0
    assert peer.versions == {"numpy": np.__version__}
    assert peer.seconds is not None
    assert peer.peak_mib is not None
    assert 10 < peer.peak_mib < read_status("VmHWM"), "not its own memory, but that of the process before it"
    assert load_peers(tmp_path / "out" / "peers.json") == results
    assert (tmp_path / "out" / peer.variant.file).is_file()
    assert not list(tmp_path.rglob("litter")), "a tool left a file where it ran"


def test_a_peer_is_given_the_calibration_images_as_the_run_prepares_them(
    exported: Project, add_peer: Add, tmp_path: Path
) -> None:
    add_peer("copy", keep=str(tmp_path / "seen.npy"))
    made(exported, tmp_path / "out", "copy")
    line = open_run(exported.out)
    expected = np.concatenate([b.images for b in batches(line.calibration, line.loaded.preprocessing, 5)])
    np.testing.assert_array_equal(np.load(tmp_path / "seen.npy"), expected)
    assert np.load(tmp_path / "out" / IMAGES).dtype == np.float32


def test_fewer_images_are_spread_evenly(exported: Project, add_peer: Add, tmp_path: Path) -> None:
    add_peer("copy", keep=str(tmp_path / "seen.npy"), images=3)
    made(exported, tmp_path / "out", "copy")
    everything = np.load(tmp_path / "out" / IMAGES)
    np.testing.assert_array_equal(np.load(tmp_path / "seen.npy"), everything[[0, 4, 8]])


def test_what_is_done_is_skipped_until_its_options_change(
    exported: Project, add_peer: Add, tmp_path: Path
) -> None:
    count, said = tmp_path / "calls", list[str]()
    add_peer("copy", calls=str(count))
    first = made(exported, tmp_path / "out", "copy")
    second = made(exported, tmp_path / "out", "copy", say=said.append)
    assert calls(count) == 1
    assert all("skipped" in line for line in said)
    assert only(first, "copy") == only(second, "copy")
    add_peer("copy", calls=str(count), images=4)
    made(exported, tmp_path / "out", "copy")
    assert calls(count) == 2


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        ("fail", "^ValueError: no such operator$"),
        ("die", "^ended by SIGKILL; perhaps the machine ran out of memory$"),
        ("nothing", "^its script ended without leaving model.onnx$"),
        ("garbage", "^it was made, but cannot be run: .*model.onnx"),
    ],
)
def test_a_peer_that_fails_is_a_row_and_the_others_go_on(
    exported: Project, add_peer: Add, tmp_path: Path, do: str, reason: str
) -> None:
    count = tmp_path / "calls"
    add_peer("bad", do=do, calls=str(count))
    add_peer("good")
    results = made(exported, tmp_path / "out", "bad", "good")
    bad = only(results, "bad")
    assert bad.variant is None
    assert bad.failure is not None
    assert only(results, "good").failure is None
    with pytest.raises(PeerFailed, match=reason):
        raise PeerFailed(bad.failure)
    assert "copying" in (tmp_path / "out" / "bad" / "log.txt").read_text()
    assert load_peers(tmp_path / "out" / "peers.json") == results
    # It is tried again; what was made and only cannot be run is not made again.
    made(exported, tmp_path / "out", "bad")
    assert calls(count) == (1 if do == "garbage" else 2)


def test_an_environment_that_cannot_be_built_is_a_row(
    exported: Project, add_peer: Add, tmp_path: Path
) -> None:
    add_peer("copy")

    def no_network(peer: Peer) -> Path:
        raise PeerFailed(f"no network for {peer.name}")

    results = make_peers(exported.out, ["copy"], tmp_path / "out", interpreter=no_network)
    assert only(results, "copy").failure == "no network for copy"


def test_what_is_judged_is_in_the_file_before_the_next_peer_begins(
    exported: Project, add_peer: Add, tmp_path: Path
) -> None:
    add_peer("one")
    add_peer("two")

    def interrupted(peer: Peer) -> Path:
        if peer.name == "two":
            raise KeyboardInterrupt
        return Path(sys.executable)

    with pytest.raises(KeyboardInterrupt):
        make_peers(exported.out, ["one", "two"], tmp_path, interpreter=interrupted)
    assert [peer.name for peer in load_peers(tmp_path / "peers.json").peers] == ["one"]


def test_peers_of_earlier_calls_stay_while_they_are_comparable(
    exported: Project, add_peer: Add, tmp_path: Path
) -> None:
    add_peer("one")
    add_peer("two", do="fail")
    made(exported, tmp_path / "out", "two")
    results = made(exported, tmp_path / "out", "one")
    assert [peer.name for peer in results.peers] == ["one", "two"]
    path = tmp_path / "out" / "peers.json"
    path.write_text(path.read_text().replace(results.inputs, "another model"))
    assert [peer.name for peer in made(exported, tmp_path / "out", "one").peers] == ["one"]


def test_a_changed_model_is_judged_anew(exported: Project, add_peer: Add, tmp_path: Path) -> None:
    count = tmp_path / "calls"
    add_peer("copy", calls=str(count))
    made(exported, tmp_path / "out", "copy")
    model = tmp_path / "out" / "copy" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-100])
    assert only(made(exported, tmp_path / "out", "copy"), "copy").failure is None
    assert calls(count) == 2, "a file that is not as it was left counts as done"


def test_quantize_dynamic_is_what_onnxruntime_makes_of_it(exported: Project, tmp_path: Path) -> None:
    results = made(exported, tmp_path, "ort-dynamic")
    peer = only(results, "ort-dynamic")
    assert peer.failure is None
    assert peer.variant is not None
    assert peer.variant.audit is not None
    assert peer.variant.audit["weight_share"] == 1.0
    quantize_dynamic(tmp_path / FLOAT_MODEL, tmp_path / "again.onnx")
    assert (tmp_path / peer.variant.file).read_bytes() == (tmp_path / "again.onnx").read_bytes()


def test_quantize_static_is_what_onnxruntime_makes_of_it(
    exported: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # ONNX Runtime writes a file of its own to where it runs
    results = made(exported, tmp_path, "ort-static-minmax", "ort-static-percentile")
    images = np.load(tmp_path / IMAGES)

    class Reader:
        def __init__(self) -> None:
            self.feeds = iter({"input": image[None]} for image in images)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.feeds, None)

    peer = only(results, "ort-static-minmax")
    assert peer.failure is None
    assert peer.variant is not None
    quantize_static(
        tmp_path / FLOAT_MODEL,
        tmp_path / "again.onnx",
        Reader(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=peer.options["arguments"]["reduce_range"],  # type: ignore[index, call-overload]
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
    )
    # Not the bytes: pre-processing renames nothing here, but writes its own metadata.
    again = {t.name: t.raw_data for t in _graph(tmp_path / "again.onnx").initializer}
    theirs = {t.name: t.raw_data for t in _graph(tmp_path / peer.variant.file).initializer}
    assert theirs == again
    percentile = only(results, "ort-static-percentile")
    assert percentile.failure is None
    assert percentile.options["images"] == 64


def _graph(path: Path) -> Any:
    import onnx

    return onnx.load(path).graph


def test_bad_input_stops_before_anything_is_written(exported: Project, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no peer 'ort-dynamc'; did you mean 'ort-dynamic'"):
        made(exported, tmp_path / "out", "ort-dynamc")
    with pytest.raises(BadInput, match="not the folder of a run"):
        make_peers(tmp_path, ["ort-dynamic"], interpreter=ours)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text((exported.out / "config.yaml").read_text())
    with pytest.raises(BadInput, match=r"fp32/model.onnx: does not exist"):
        make_peers(tmp_path / "run", ["ort-dynamic"], interpreter=ours)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "run" / "peers").exists()


SLOW = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born without it
sys.path.insert(0, {folder!r})
from pathlib import Path
from benchmarks.peers import run, tools
from benchmarks.peers.registry import PEERS, Peer
run.make_interpreter = lambda *_: Path(sys.executable)
PEERS["slow"] = Peer("slow", "", "", "onnxruntime", Path({script!r}), Path({script!r}), lambda _: {options!r})
from benchmarks.peers.__main__ import main
sys.exit(main([{run!r}, "--peer", "slow", "--out", {out!r}]))
"""


def test_ctrl_c_leaves_nothing_half_done_and_the_same_command_goes_on(
    exported: Project, add_peer: Add, tmp_path: Path
) -> None:
    count, out = tmp_path / "calls", tmp_path / "out"
    options = {"calls": str(count), "sleep": 60}
    program = tmp_path / "program.py"
    script = str(add_peer("unused").script)
    program.write_text(
        SLOW.format(
            folder=str(exported.folder), script=script, options=options, run=str(exported.out), out=str(out)
        )
    )
    process = subprocess.Popen(
        [sys.executable, program], env=exported.environment(), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not calls(count) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "octavo: interrupted" in said
    child = int(count.read_text().split()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert not (out / "slow").exists()
    assert not (out / "peers.json").exists()
    assert (out / IMAGES).is_file()
    said_again: list[str] = []
    add_peer("slow", calls=str(count))
    again = only(made(exported, out, "slow", say=said_again.append), "slow")
    assert again.failure is None
    assert "peer-images: nothing has changed, skipped" in said_again
