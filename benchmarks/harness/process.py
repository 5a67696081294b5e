"""Start a measuring process and give it orders."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.harness.loadgen import Load
from benchmarks.harness.shared import shared_packages
from quant.errors import BadInput, InternalError, Unsupported

__all__ = ["Footprint", "Process", "Subject"]

_ROOT = Path(__file__).resolve().parents[2]
_KINDS = {"BadInput": BadInput, "Unsupported": Unsupported}


@dataclass(frozen=True)
class Subject:
    """What is measured, and with what.

    Attributes:
        name: of the variant.
        backend: key of :data:`benchmarks.harness.backends.BACKENDS`.
        model: what the backend opens.
        options: the backend's own.
        interpreter: the Python that has the backend's runtime.
        input_name: the input that takes the images.
    """

    name: str
    backend: str
    model: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    interpreter: Path = Path(sys.executable)
    input_name: str = "input"


@dataclass(frozen=True)
class Footprint:
    """Resident memory of a process that runs one model, in MiB.

    Attributes:
        imported_mib: with the runtime imported.
        loaded_mib: with the model loaded.
        first_mib: after the first call.
        steady_mib: after the last one.
        peak_mib: the most that ever was.
    """

    imported_mib: float
    loaded_mib: float
    first_mib: float
    steady_mib: float
    peak_mib: float


class Process:
    """A fresh process with one model; a context manager that ends the process.

    Args:
        subject: what to open.
        threads: inside one operator.
        cpus: the processors it may run on; None for those of this process.
        timeout_s: the longest that one order may take, in seconds.

    Attributes:
        load_ms: the time that opening the model took.
        footprint: memory until now; None before the first call.
        millijoules: what each image since the last `feed` took of the processors' energy, as their counters
            have it; None where they cannot be read.
    """

    def __init__(
        self, subject: Subject, threads: int, cpus: tuple[int, ...] | None = None, timeout_s: float = 600
    ) -> None:
        self._subject = subject
        self._threads = threads
        self._cpus = cpus
        self._timeout_s = timeout_s

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        try:
            return self._start()
        except BaseException:
            self._stack.close()
            raise

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> Self:
        self._errors = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._process = subprocess.Popen(
            [str(self._subject.interpreter), "-m", "benchmarks.harness.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | self._packages(),
        )
        self._stack.callback(self._end)
        self.footprint: Footprint | None = None
        self._batch, self._images, self._joules = 1, 0, 0.0
        self._counted = False
        self._opened = self._open()
        self.load_ms: float = self._opened["load_ms"]
        return self

    def _end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()
        finally:
            self._process.stdout.close()

    def feed(self, images: Path, batch: int) -> None:
        """Read ``batch`` images from a NumPy file [N, C, H, W], again from the first where it has fewer."""
        self._batch, self._images, self._joules = batch, 0, 0.0
        file = str(images.resolve())
        self._order("feed", name=self._subject.input_name, file=file, batch=batch)

    def run(self, calls: int) -> list[float]:
        """Call the model and give the time of each call in ms.

        Raises:
            BadInput: the images do not fit the model, or it takes too long.
            Unsupported: the model cannot be run, or its process died.
        """
        reply = self._order("run", calls=calls)
        now = reply["resident_mib"]
        self.footprint = Footprint(
            imported_mib=self._opened["imported_mib"],
            loaded_mib=self._opened["loaded_mib"],
            first_mib=now if self.footprint is None else self.footprint.first_mib,
            steady_mib=now,
            peak_mib=reply["peak_mib"],
        )
        self._counted = reply["joules"] is not None
        self._joules += reply["joules"] or 0.0
        self._images += calls * self._batch
        return [ns / 1e6 for ns in reply["ns"]]

    def load(self, images: Path, load: Load) -> dict[str, Any]:
        """Put load on the model, see `benchmarks.harness.loadgen.generate`."""
        file = str(images.resolve())
        return self._order("load", file=file, name=self._subject.input_name, **asdict(load))

    @property
    def millijoules(self) -> float | None:  # noqa: D102 - described by the class
        return 1e3 * self._joules / self._images if self._counted else None

    def _packages(self) -> dict[str, str]:
        """Where the process finds packages: ours, and the user's own models where the interpreter is ours."""
        if self._subject.interpreter != Path(sys.executable):
            return self._stack.enter_context(shared_packages())
        return {"PYTHONPATH": os.pathsep.join([str(_ROOT), *(entry or os.getcwd() for entry in sys.path)])}

    def _open(self) -> dict[str, Any]:
        s = self._subject
        return self._order(
            "open",
            backend=s.backend,
            model=str(s.model.resolve()),
            threads=self._threads,
            cpus=self._cpus,
            options=dict(s.options),
        )

    def _order(self, do: str, **order: Any) -> dict[str, Any]:
        line = self._ask(json.dumps({"do": do, **order}))
        try:
            reply = json.loads(line)
        except ValueError as error:
            raise InternalError(f"{self._subject.name}: not an answer: {line[:200]!r}") from error
        if not isinstance(reply, dict):
            raise InternalError(f"{self._subject.name}: not an answer: {line[:200]!r}")
        if "error" in reply:
            kind = _KINDS.get(reply["kind"], InternalError)
            raise kind(f"{self._subject.name}: {reply['error']}")
        return reply

    def _ask(self, order: str) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(order.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(self._timeout_s):
                self._process.kill()
                raise BadInput(
                    f"{self._subject.name}: one order took longer than {self._timeout_s:g} s; measure fewer "
                    "calls or smaller batches"
                )
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        return line

    def _died(self) -> Unsupported:
        status = self._process.wait()
        self._errors.seek(0)
        last = self._errors.read()[-500:].decode(errors="replace").strip()
        how = f"with status {status}" if status >= 0 else f"by {signal.Signals(-status).name}"
        hint = ", perhaps for want of memory" if status == -signal.SIGKILL else ""
        return Unsupported(f"{self._subject.name}: the process that ran it ended {how}{hint}: {last}")
