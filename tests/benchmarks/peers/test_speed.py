import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.peers.registry import Peer
from benchmarks.peers.results import load_peers
from benchmarks.peers.run import make_peers
from benchmarks.peers.show import peer_grid
from benchmarks.peers.speed import time_peers
from quant.errors import BadInput
from tests.octavo.project import Project, call


def test_peers_are_timed_beside_the_run(
    exported: Project, add_peer: Callable[..., Peer], tmp_path: Path
) -> None:
    add_peer("copy")
    add_peer("bad", do="fail")
    assert call("lower", exported.out).exit_code == 0
    make_peers(exported.out, ["copy", "bad"], tmp_path, interpreter=lambda _: Path(sys.executable))
    results, ours = time_peers(exported.out, tmp_path, [load_peers(tmp_path / "peers.json").reference])
    copy = next(peer.variant for peer in results.peers if peer.name == "copy")
    for variant in (copy, results.reference, *ours):
        assert variant is not None
        assert variant.latency is not None
        (entry,) = variant.latency
        assert entry.by_process.shape == (2, 3)
        assert variant.memory is not None
    assert copy is not None
    assert copy.latency is not None
    assert copy.latency[0].speedup is not None
    assert len(results.noise) == 1
    assert load_peers(tmp_path / "peers.json") == results
    grid = peer_grid(results, ours)
    assert grid.head[-1] == "Speed-up"
    assert "×" in next(row for row in grid.rows if row[0] == "copy")[-1]


def test_without_peers_there_is_nothing_to_time(exported: Project, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"run `python -m benchmarks\.peers RUN` first"):
        time_peers(exported.out, tmp_path)
