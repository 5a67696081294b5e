"""The serving image for ARM64 in the emulator, started as on a device."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.arm64.cpus import Cpu
from quant.errors import BadInput, InternalError

__all__ = ["Served"]

_READY_S = 300.0
"""The emulator takes ten seconds for what is done in a tenth; this only ends what hangs."""


class Served:
    """A container of the image that serves a bundle; it lives inside the ``with`` block.

    Args:
        engine: ``podman`` or ``docker``.
        image: its name.
        bundle: a file, made for ``ort-arm64``.
        cpu: the processor.
        folder: a file of the processor's description is written there.
    """

    def __init__(self, engine: str, image: str, bundle: Path, cpu: Cpu, folder: Path) -> None:
        self._engine, self._image, self._bundle, self._cpu = engine, image, bundle, cpu
        self._cpuinfo = folder / "cpuinfo"
        self._url, self._id = "", ""

    def __enter__(self) -> Self:
        self._cpuinfo.write_text(self._cpu.cpuinfo(len(os.sched_getaffinity(0))), encoding="ascii")
        port = _free_port()
        self._url = f"http://127.0.0.1:{port}"
        # --init: what crashes as process 1 under QEMU hangs for ever.
        hardened = ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--init"]
        mounted = {self._bundle: "/bundle.zip", self._cpuinfo: "/proc/cpuinfo"}
        volumes = [f"--volume={path.resolve()}:{place}:ro" for path, place in mounted.items()]
        options = [f"--publish=127.0.0.1:{port}:8080", f"--env=QEMU_CPU={self._cpu.name}", *volumes]
        self._id = self._call("run", "--detach", "--platform=linux/arm64", *hardened, *options, self._image)
        try:
            self._wait()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away, running or not."""
        self._remove()

    def status(self, path: str) -> int:
        """The HTTP status of a page; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(self._url + path, timeout=_READY_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def infer(self, name: str, sample: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits [N, K] of the only model, over REST; JSON keeps float32 exactly.

        Args:
            name: of the input.
            sample: [N, ...].
        """
        (model,) = self._json("/v2/models")["models"]
        tensor = {"name": name, "shape": sample.shape, "datatype": "FP32", "data": sample.ravel().tolist()}
        (output,) = self._json(f"/v2/models/{model['name']}/infer", {"inputs": [tensor]})["outputs"]
        return np.array(output["data"], np.float32).reshape(output["shape"])

    def stop(self) -> int:
        """Send SIGTERM and wait for the exit code."""
        self._call("kill", "--signal=TERM", self._id)
        return int(self._call("wait", self._id).split()[-1])

    def _wait(self) -> None:
        began = time.monotonic()
        while self.status("/v2/health/ready") != 200:
            running = self._call("container", "inspect", "--format", "{{.State.Running}}", self._id)
            if running != "true" or time.monotonic() - began > _READY_S:
                raise BadInput(f"{self._image} does not get ready; it says: {self._last_words()}")
            time.sleep(0.2)

    def _json(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=_READY_S) as answer:
                return json.loads(answer.read())
        except OSError as error:
            raise InternalError(f"{self._image}: {path}: {error}") from error

    def _call(self, *words: str) -> str:
        try:
            done = subprocess.run([self._engine, *words], capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise BadInput(f"{self._engine} is not installed") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip().split("\n")[-1]
            raise BadInput(f"{self._engine} {words[0]} failed: {said}")
        return done.stdout.strip()

    def _last_words(self) -> str:
        done = subprocess.run([self._engine, "logs", self._id], capture_output=True, text=True, check=False)
        return (done.stderr or done.stdout).strip()[-300:]

    def _remove(self) -> None:
        if self._id:
            subprocess.run([self._engine, "rm", "--force", self._id], capture_output=True, check=False)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
