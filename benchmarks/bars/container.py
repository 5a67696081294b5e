"""A container of a serving image, started as documented: read-only, without root or capabilities."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from quant.errors import BadInput, InternalError

__all__ = ["Container", "Engine", "find_engine"]

_START_S = 60.0
_LOOK_S = 5.0


@dataclass(frozen=True)
class Engine:
    """What runs containers.

    Attributes:
        name: ``docker`` or ``podman``.
    """

    name: str

    def call(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the engine's command line.

        Raises:
            BadInput: it fails, with its own last line.
        """
        done = subprocess.run([self.name, *arguments], capture_output=True, text=True, check=False)
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip().split("\n")[-1]
            raise BadInput(f"{self.name} {arguments[0]} failed: {said}")
        return done

    def inspect(self, what: str, name: str) -> dict[str, Any]:
        """What the engine knows of an ``image`` or a ``container``."""
        (found,) = json.loads(self.call(what, "inspect", name).stdout)
        return dict(found)


def find_engine(name: str | None = None) -> Engine:
    """The engine of this name, else the first of docker and podman that answers.

    Raises:
        BadInput: there is none.
    """
    tried = (name,) if name else ("docker", "podman")
    for candidate in tried:
        if candidate not in ("docker", "podman"):
            raise BadInput(f"the engine is '{candidate}'; it can be docker or podman")
        if shutil.which(candidate) and Engine(candidate).call("info", check=False).returncode == 0:
            return Engine(candidate)
    raise BadInput(
        f"no container engine answers (tried: {', '.join(tried)}); install podman, or start Docker's daemon"
    )


class Container:
    """A server in a container; it lives inside the ``with`` block.

    Args:
        engine: that runs it.
        image: its name.
        bundle: that is mounted, as a file or a folder.
        options: of the engine's ``run``, besides.
        start_s: how long it may take to get ready, or to answer.

    Attributes:
        url: where it answers.
        ready_s: seconds from before the engine was called to the first answer that it is ready.
    """

    def __init__(
        self,
        engine: Engine,
        image: str,
        bundle: Path,
        options: Sequence[str] = (),
        start_s: float = _START_S,
    ) -> None:
        self.engine, self._image, self._bundle = engine, image, bundle
        self._options, self._start_s = options, start_s
        self.url, self.ready_s, self._id = "", 0.0, ""

    def __enter__(self) -> Self:
        port = _free_port()
        # Podman would put writable folders into a read-only container.
        strict = ["--read-only-tmpfs=false"] if self.engine.name == "podman" else []
        self.url = f"http://127.0.0.1:{port}"
        began = time.monotonic()
        self._id = self.engine.call(
            "run", "--detach", "--read-only", *strict, "--cap-drop=all", "--security-opt=no-new-privileges",
            "--pids-limit=256", f"--publish=127.0.0.1:{port}:8080",
            f"--volume={self._bundle.resolve()}:/bundle.zip:ro", *self._options, self._image,
        ).stdout.strip().split("\n")[-1]  # fmt: skip
        try:
            looked = began
            while not self._ready():
                time.sleep(0.02)
                now = time.monotonic()
                if now - looked > _LOOK_S:  # seldom, for asking the engine takes time from what is measured
                    looked = now
                    if now - began > self._start_s or not self._running():
                        raise BadInput(f"{self._image} does not get ready; it says: {self._last_words()}")
            self.ready_s = time.monotonic() - began
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take it away, running or not."""
        self._remove()

    def get(self, path: str) -> bytes:
        """The answer of a page.

        Raises:
            InternalError: it is not of status 200.
        """
        return self._request(urllib.request.Request(self.url + path))

    def post(self, path: str, body: object) -> Any:
        """The answer to a question, both in JSON.

        Raises:
            InternalError: it is not of status 200.
        """
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return json.loads(self._request(request))

    def infer(self, name: str, sample: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs [N, K] of the only model, over REST; JSON keeps float32 values exactly.

        Args:
            name: of the input.
            sample: [N, ...].
        """
        (model,) = json.loads(self.get("/v2/models"))["models"]
        (told,) = json.loads(self.get(f"/v2/models/{model['name']}"))["inputs"]
        tensor = {"name": name, "datatype": told["datatype"], "shape": sample.shape}
        body = {"inputs": [{**tensor, "data": sample.ravel().tolist()}]}
        (output,) = self.post(f"/v2/models/{model['name']}/infer", body)["outputs"]
        return np.array(output["data"], np.float32).reshape(output["shape"])

    def python(self, program: str, environment: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a program with the container's own Python, inside it.

        Args:
            program: its text.
            environment: settings such as ``NAME=value``.
        """
        options = [f"--env={setting}" for setting in environment]
        return self.engine.call("exec", *options, self._id, "python3", "-c", program, check=False)

    def health(self) -> str:
        """What the image's own health check says: ``healthy``, or another word of the engine's.

        Podman is made to ask, as it needs systemd to ask by itself; Docker does, so this waits for it.
        """
        if self.engine.name == "podman":
            self.engine.call("healthcheck", "run", self._id, check=False)
        began = time.monotonic()
        while True:
            state = self.engine.inspect("container", self._id)["State"]
            status = str((state.get("Health") or state.get("Healthcheck") or {}).get("Status", "none"))
            if status != "starting" or time.monotonic() - began > _START_S:
                return status
            time.sleep(0.5)

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM and wait; gives the exit code and the seconds it took."""
        began = time.monotonic()
        self.engine.call("kill", "--signal=TERM", self._id)
        code = int(self.engine.call("wait", self._id).stdout.split()[-1])
        return code, time.monotonic() - began

    def _request(self, request: urllib.request.Request) -> bytes:
        try:
            with urllib.request.urlopen(request, timeout=self._start_s) as answer:
                return bytes(answer.read())
        except urllib.error.URLError as error:
            raise InternalError(f"{request.full_url}: {error}") from error

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/v2/health/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _running(self) -> bool:
        return bool(self.engine.inspect("container", self._id)["State"]["Running"])

    def _last_words(self) -> str:
        done = self.engine.call("logs", self._id, check=False)
        return (done.stderr or done.stdout).strip().split("\n")[-1]

    def _remove(self) -> None:
        if self._id:
            self.engine.call("rm", "--force", self._id, check=False)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
