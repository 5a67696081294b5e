"""Measure a run's kit on a device that can be reached over SSH, with the system's own ``ssh`` and ``scp``.

No password is ever asked for: keys, ports and jump hosts are what ``~/.ssh/config`` says.
"""

import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.files import write_bytes
from benchmarks.kit.pack import pack
from benchmarks.kit.record import record_path
from benchmarks.kit.result import read_result
from quant.errors import BadInput

__all__ = ["measure_on"]

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(@[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
_NO_CONNECTION = 255  # ssh(1), exit status


def measure_on(host: str, run: Path, say: Callable[[str], None], python: str = "python3") -> Path:
    """Pack the run, measure it on the device, and bring the result back.

    What is copied there goes to a folder of its own
    below the user's home and is removed at the end; when it was interrupted, the same call goes on.

    Args:
        host: ``user@device``, or a name that the configuration of SSH knows.
        run: the folder of the run.
        say: told what happens.
        python: the one there that has numpy and onnxruntime, such as that of a virtual environment.

    Returns:
        The result, in the run's folder.

    Raises:
        BadInput: the host cannot be reached without a password, or something failed there.
    """
    if not _HOST.fullmatch(host):
        raise BadInput(f"'{host}' is not a host such as user@device; ports and keys go to ~/.ssh/config")
    with tempfile.TemporaryDirectory(prefix="octavo-") as temporary:
        kit = pack(run, Path(temporary) / "kit.zip")
        there = f"octavo-kit-{kit.identity[:16]}"
        say(f"copying {kit.size_bytes / 2**20:.1f} MiB to {host}")
        _do(host, ["ssh", *_OPTIONS, host, f"mkdir -p {there}"])
        _do(host, ["scp", "-q", *_OPTIONS, str(kit.path), f"{host}:{there}/kit.zip"])
        command = shlex.quote(python)
        measure = f"cd {there} && {command} -m zipfile -e kit.zip . && cd kit && {command} measure.py"
        _do(host, ["ssh", *_OPTIONS, host, measure], shown=True)
        fetched = Path(temporary) / "result.json"
        _do(host, ["scp", "-q", *_OPTIONS, f"{host}:{there}/kit/result.json", str(fetched)])
        read_result(fetched)
        result = record_path(run, kit.identity).with_suffix(f".{host}.json")
        write_bytes(result, fetched.read_bytes())
        _do(host, ["ssh", *_OPTIONS, host, f"rm -rf {there}"])
    return result


def _do(host: str, words: Sequence[str], shown: bool = False) -> None:
    """Run a command; what it says is shown as it comes, or is in the message where it fails."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stderr=None if shown else subprocess.PIPE, check=False
        )
    except FileNotFoundError as error:
        raise BadInput(f"{words[0]} is not installed; install OpenSSH's client") from error
    if done.returncode == 0:
        return
    told = "" if done.stderr is None else ": " + " ".join(done.stderr.decode(errors="replace").split())
    if done.returncode == _NO_CONNECTION and not shown:
        raise BadInput(
            f"{host}: cannot be reached without a password{told}; `ssh-copy-id {host}` copies a key"
        )
    raise BadInput(f"{host}: {words[0]} ended with {done.returncode}{told}; what it has is left there")
