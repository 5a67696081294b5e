"""What a peer is, and the list of them that a new file in ``benchmarks/peers/tools`` adds to."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from deploy.cpu import CpuInfo
from quant.errors import BadInput, InternalError

__all__ = ["FILES", "PEERS", "Backend", "Options", "Peer", "get_peers", "register_peer"]

Backend = Literal["onnxruntime", "openvino"]
Options = Callable[[CpuInfo], dict[str, Any]]
"""What a script is told, as JSON values; may depend on the CPU that the model is for."""

FILES: Mapping[Backend, tuple[str, ...]] = {
    "onnxruntime": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
}
"""The files of a model, the first of which names it to the runtime."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """Another tool with one choice of its settings.

    Attributes:
        name: unique, such as ``ort-static``.
        tool: the tool in words.
        settings: its settings in words.
        backend: what runs the model.
        script: in ``benchmarks/peers/scripts``; see ``peer_protocol.py`` there for what it is given.
        requirements: in ``benchmarks/peers/requirements``: the complete list of the packages it needs.
        options: what the script is told.
    """

    name: str
    tool: str
    settings: str
    backend: Backend
    script: Path
    requirements: Path
    options: Options


PEERS: dict[str, Peer] = {}
"""All peers by name, in the order of the table."""


def register_peer(
    name: str, *, tool: str, settings: str, script: str, requirements: str, backend: Backend = "onnxruntime"
) -> Callable[[Options], Options]:
    """Add a peer; decorates the function that gives the script's options. Arguments as in :class:`Peer`.

    Raises:
        InternalError: the name is taken.
    """
    if name in PEERS:
        raise InternalError(f"two peers are called {name!r}")

    def add(options: Options) -> Options:
        PEERS[name] = Peer(
            name=name,
            tool=tool,
            settings=settings,
            backend=backend,
            script=_HERE / "scripts" / script,
            requirements=_HERE / "requirements" / requirements,
            options=options,
        )
        return options

    return add


def get_peers(names: Iterable[str] = ()) -> tuple[Peer, ...]:
    """Some peers in the order of the table; all of them where none is named.

    Raises:
        BadInput: there is no such peer.
    """
    wanted = set(names)
    for name in sorted(wanted - set(PEERS)):
        near = get_close_matches(name, PEERS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BadInput(f"no peer {name!r}{hint} Known: {', '.join(PEERS)}")
    return tuple(peer for peer in PEERS.values() if not wanted or peer.name in wanted)
