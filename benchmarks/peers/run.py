"""``python -m benchmarks.peers``: make the peers of a run and judge them, one after the other."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.accuracy import score
from benchmarks.environment import describe_environment
from benchmarks.peers import tools  # noqa: F401  # registers the peers
from benchmarks.peers.environments import cache_folder, make_interpreter
from benchmarks.peers.judge import (
    audit_file,
    audit_step,
    load_predictions,
    predict_float,
    predict_step,
    validation_inputs,
)
from benchmarks.peers.make import FLOAT_MODEL, IMAGES, MADE, input_steps, make_step, model_file
from benchmarks.peers.process import PeerFailed, Say, quiet
from benchmarks.peers.registry import FILES, PEERS, Peer, get_peers
from benchmarks.peers.results import PEERS_FILE, PeerResult, PeerResults, load_peers, save_peers
from benchmarks.results import Variant
from deploy.cpu import cpu_info
from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.images import describe_source
from deploy.pipeline.line import FLOAT, Line, open_run
from deploy.pipeline.workspace import Workspace, digest
from quant.errors import BadInput

__all__ = ["FOLDER", "make_peers"]

FOLDER = "peers"
Interpreter = Callable[[Peer], Path]


@dataclass(frozen=True)
class _Work:
    """What all peers of one call share."""

    line: Line
    workspace: Workspace
    interpreter: Interpreter
    say: Say
    show: Say
    console: Console | None


def make_peers(
    run: Path,
    names: Sequence[str] = (),
    out: Path | None = None,
    *,
    say: Say = quiet,
    show: Say = quiet,
    console: Console | None = None,
    interpreter: Interpreter | None = None,
) -> PeerResults:
    """Make some peers of a run, judge them, and write ``peers.json``.

    The file is written after each peer. A peer that fails is an entry with the reason; it is tried again by
    the next call. What earlier calls made from the same inputs stays in the file.

    Args:
        run: the folder of a run whose float model is exported.
        names: which peers; all of them where none is named.
        out: the folder that everything goes to; ``RUN/peers`` when left out.
        say: told what happens.
        show: told each line that pip and the peers print.
        console: where progress bars are drawn; standard error when left out.
        interpreter: gives a peer's interpreter; built on demand in the cache folder when left out.

    Raises:
        BadInput: a peer is not known, the folder holds no run, or a file or its images cannot be used.
    """
    peers = get_peers(names)
    line = open_run(run)
    if line.config.task != "classification":
        raise BadInput(f"peers are judged by the classes they name; the run's task is {line.config.task}")
    float_model = line.workspace.sha256(FLOAT_FILE)
    workspace = Workspace(out if out is not None else run / FOLDER)
    cache = cache_folder()
    if interpreter is None:

        def interpreter(peer: Peer) -> Path:
            return make_interpreter(peer.requirements, cache, say, show)

    work = _Work(line, workspace, interpreter, say, show, console)
    for step in (*input_steps(line), predict_float(line, console)):
        workspace.do(step, say=say)
    inputs = digest([float_model, workspace.sha256(IMAGES), validation_inputs(line)])
    results = PeerResults(
        created=datetime.now(UTC),
        command=f"python -m benchmarks.peers {run}",
        model=line.config.model.name,
        data=line.validation_in_words,
        calibration=describe_source(line.config.calibration, line.calibration),
        inputs=inputs,
        environment=describe_environment(),
        reference=_reference(work),
        peers=_in_order(_earlier(workspace, inputs)),
    )
    for peer in peers:
        known = {found.name: found for found in results.peers}
        known[peer.name] = _result(work, peer)
        results = results.model_copy(update={"peers": _in_order(known)})
        save_peers(results, workspace.path(PEERS_FILE))
    return results


def _result(work: _Work, peer: Peer) -> PeerResult:
    known = PeerResult(
        name=peer.name,
        tool=peer.tool,
        settings=peer.settings,
        options=peer.options(cpu_info()),
        backend=peer.backend,
        failure="not tried",
    )
    try:
        python = partial(work.interpreter, peer)
        work.workspace.do(make_step(peer, work.workspace, python, work.show), say=work.say)
        made = json.loads(work.workspace.path(f"{peer.name}/{MADE}").read_text(encoding="utf-8"))
        known = known.model_copy(update=made)
        step = predict_step(peer, work.line, work.workspace, python, work.console)
        work.workspace.do(step, say=work.say)
        return known.model_copy(update={"variant": _variant(work, peer), "failure": None})
    except PeerFailed as error:
        reason = " ".join(str(error).split())
        work.say(f"{peer.name}: {reason}")
        return known.model_copy(update={"failure": reason})


def _variant(work: _Work, peer: Peer) -> Variant:
    audit: dict[str, Any] | None = None
    note = None
    step = audit_step(peer, work.workspace)
    if step is not None:
        try:
            work.workspace.do(step, say=work.say)
            audit = json.loads(work.workspace.path(audit_file(peer)).read_text(encoding="utf-8"))
        except PeerFailed as error:
            note = " ".join(str(error).split())
    size = _size(work.workspace.path(f"{peer.name}/{name}") for name in FILES[peer.backend])
    base = _size([work.workspace.path(FLOAT_MODEL)])
    try:
        accuracy = score(load_predictions(work.workspace, peer.name), load_predictions(work.workspace, FLOAT))
    except BadInput as error:
        raise PeerFailed(f"it was made and runs, but its answers cannot be judged: {error}") from error
    return Variant(
        name=peer.name,
        target=peer.backend,
        file=model_file(peer),
        size_bytes=size,
        size_ratio=base / size,
        accuracy=accuracy,
        audit=audit,
        note=note,
    )


def _reference(work: _Work) -> Variant:
    return Variant(
        name=FLOAT,
        target="onnxruntime",
        file=FLOAT_MODEL,
        size_bytes=_size([work.workspace.path(FLOAT_MODEL)]),
        size_ratio=1.0,
        accuracy=score(load_predictions(work.workspace, FLOAT)),
    )


def _earlier(workspace: Workspace, inputs: str) -> dict[str, PeerResult]:
    """What the file already has, if that is comparable and still known."""
    if not workspace.path(PEERS_FILE).is_file():
        return {}
    try:
        found = load_peers(workspace.path(PEERS_FILE))
    except BadInput:  # of another version: made anew
        return {}
    return {peer.name: peer for peer in found.peers if found.inputs == inputs and peer.name in PEERS}


def _in_order(found: dict[str, PeerResult]) -> tuple[PeerResult, ...]:
    return tuple(found[name] for name in PEERS if name in found)


def _size(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)
