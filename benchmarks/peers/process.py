"""Run a command of another tool: its lines are shown and kept, and it never outlives us."""

import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from quant.errors import Unsupported

__all__ = ["PeerFailed", "Say", "end", "quiet", "stream"]

Say = Callable[[str], None]
_KEPT = 50  # lines to find the reason of a failure in
_GRACE_S = 5.0


class PeerFailed(Unsupported):
    """A peer could not be made or run; the message is the reason, in one line."""


def quiet(text: str) -> None:
    """Tell nobody."""
    del text


def stream(
    command: Sequence[str | Path],
    show: Say = quiet,
    log: TextIO | None = None,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    """Run a command to its end.

    Args:
        command: program and arguments.
        show: told each line it prints, standard error included.
        log: where all lines are written.
        env: its environment variables; ours when left out.
        folder: where it runs, and leaves what tools leave where they run; ours when left out.

    Raises:
        PeerFailed: it cannot be started or does not end with 0; the message is the last line it printed.
    """
    last: deque[str] = deque(maxlen=_KEPT)
    words = [str(word) for word in command]
    try:
        # A session of its own: Ctrl-C in a terminal reaches us alone, and we end the whole group.
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=None if env is None else dict(env),
            cwd=folder,
            start_new_session=True,
        )
    except OSError as error:
        raise PeerFailed(f"{words[0]}: cannot be started: {error.strerror}") from error
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if log is not None:
                log.write(line)
            if line.strip():
                last.append(line.strip())
                show(line.strip())
        code = process.wait()
    finally:
        end(process)
    if code != 0:
        raise PeerFailed(_reason(code, last))


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End a process that was started in a session of its own, and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        os.killpg(process.pid, number)
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            continue
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _reason(code: int, last: Sequence[str]) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; perhaps the machine ran out of memory" if name == "SIGKILL" else ""
        return f"ended by {name}{hint}"
    return last[-1] if last else f"ended with exit code {code} without a word"
