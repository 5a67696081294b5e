"""Time the models that peers made, and the run's own, against each other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.bench import Candidate, Speed, bench_speed
from benchmarks.peers.made import made_peers
from benchmarks.peers.results import PEERS_FILE, PeerResults, load_peers, save_peers
from benchmarks.results import Variant
from benchmarks.run_variants import bench_settings, candidates
from deploy.pipeline.line import FLOAT, open_run
from quant.data.batches import batches

__all__ = ["time_peers"]


def time_peers(
    run: Path, folder: Path, ours: Sequence[Variant] = (), console: Console | None = None
) -> tuple[PeerResults, tuple[Variant, ...]]:
    """Latency and memory of everything that was made, each in processes of its own that take turns.

    ONNX files are run by our ONNX Runtime, anything else by the peer's environment. Speed-ups are over the
    run's float model in its best graph. The figures are added to ``peers.json``.

    Args:
        run: the folder of a run.
        folder: where its peers are.
        ours: variants of the run that were measured before.
        console: where progress is drawn; standard error when left out.

    Returns:
        The peers, and ``ours`` with the figures measured beside them.

    Raises:
        BadInput: there are no peers, or a file of theirs or of the run is gone.
        Unsupported: a model cannot be run.
    """
    line = open_run(run)
    peers = [Candidate(p.name, p.model, p.backend, {}, p.python) for p in made_peers(folder)]
    (batch, *_) = batches(line.validation, line.loaded.preprocessing, line.batch_size(16), limit=16)
    images = np.asarray(batch.images, dtype=np.float32)
    found = bench_speed(
        [*candidates(line), *peers], images, bench_settings(line), reference=FLOAT, console=console
    )
    results = load_peers(folder / PEERS_FILE)
    timed = [
        peer if peer.variant is None else peer.model_copy(update={"variant": _timed(peer.variant, found)})
        for peer in results.peers
    ]
    update = {"reference": _timed(results.reference, found), "peers": tuple(timed), "noise": found.noise}
    results = results.model_copy(update=update)
    save_peers(results, folder / PEERS_FILE)
    return results, tuple(_timed(variant, found) for variant in ours)


def _timed(variant: Variant, found: Speed) -> Variant:
    if variant.name not in found.latency:
        return variant
    return variant.model_copy(
        update={"latency": found.latency[variant.name], "memory": found.memory[variant.name]}
    )
