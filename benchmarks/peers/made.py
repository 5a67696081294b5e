"""The peers that were made, for whoever times them."""

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import tools  # noqa: F401  # registers the peers
from benchmarks.peers.environments import cache_folder, interpreter_path
from benchmarks.peers.registry import PEERS, Backend
from benchmarks.peers.results import PEERS_FILE, load_peers
from quant.errors import BadInput

__all__ = ["MadePeer", "made_peers"]


@dataclass(frozen=True)
class MadePeer:
    """A peer's model, ready to run.

    Attributes:
        name: the peer's.
        model: the file.
        backend: the runtime that runs it.
        python: an interpreter that has the runtime: ours for ONNX Runtime, so that peers and our variants run
            in the same version of it; the peer's own for anything else.
    """

    name: str
    model: Path
    backend: Backend
    python: Path


def made_peers(folder: Path) -> tuple[MadePeer, ...]:
    """Those peers of ``RUN/peers`` that could be made and run, in the order of the table.

    Args:
        folder: the folder that has ``peers.json``.

    Raises:
        BadInput: there is no such file, a model in it is gone, or the environment that runs it is.
    """
    again = "run `python -m benchmarks.peers RUN` again"
    found = []
    for peer in load_peers(folder / PEERS_FILE).made:
        assert peer.variant is not None
        model = folder / peer.variant.file
        if not model.is_file():
            raise BadInput(f"{model}: is gone; {again}")
        python = Path(sys.executable)
        if peer.backend != "onnxruntime":
            if peer.name not in PEERS:
                raise BadInput(f"{folder}: {peer.name!r} is no longer a known peer; {again}")
            python = interpreter_path(PEERS[peer.name].requirements, cache_folder())
        if not python.exists():
            raise BadInput(f"{python}: the environment of {peer.name} is gone; {again}")
        found.append(MadePeer(peer.name, model, peer.backend, python))
    return tuple(found)
