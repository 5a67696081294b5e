"""A runner whose runtime lives in another interpreter, so that our harness can judge it like any other."""

import io
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from benchmarks.harness.shared import shared_packages
from benchmarks.peers.process import PeerFailed, end
from benchmarks.peers.registry import Backend
from deploy.runner import Array
from quant.errors import InternalError

__all__ = ["RemoteRunner"]

_SERVER = Path(__file__).parent / "scripts" / "serve.py"
_LENGTH = 8


class RemoteRunner:
    """A `deploy.runner.Runner` in a process of another interpreter.

    Args:
        python: that interpreter; it needs NumPy and the runtime, nothing of Octavo's dependencies else.
        backend: the runtime.
        model: the model's file.
        settings: of the runtime, the fields of `CompileSettings` or `SessionSettings` that differ from their
            defaults, as JSON values.
    """

    def __init__(self, python: Path, backend: Backend, model: Path, settings: Mapping[str, Any]) -> None:
        self._command = [str(python), "-P", str(_SERVER), backend, str(model), json.dumps(dict(settings))]
        self._process: subprocess.Popen[bytes] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            variables = stack.enter_context(shared_packages())
            self._errors = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=os.environ | variables,
                start_new_session=True,
            )
            stack.callback(end, self._process)
            self._receive()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process = None
        self._stack.close()

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once, over there.

        Args:
            feeds: input name to array.

        Returns:
            Output name to array.

        Raises:
            PeerFailed: it could not be run; the message is what the other process said last.
            InternalError: the runner is used outside its ``with`` block.
        """
        if self._process is None:
            raise InternalError("RemoteRunner used outside its `with` block: there is no process")
        assert self._process.stdin is not None
        packed = io.BytesIO()
        np.savez(packed, **dict(feeds))  # type: ignore[arg-type]  # a name may be anything but `file`
        try:
            self._process.stdin.write(packed.tell().to_bytes(_LENGTH, "little") + packed.getvalue())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._failure() from error
        with np.load(io.BytesIO(self._receive())) as answer:
            return dict(answer)

    def _receive(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        head = self._process.stdout.read(_LENGTH)
        size = int.from_bytes(head, "little")
        body = self._process.stdout.read(size) if len(head) == _LENGTH else b""
        if len(head) < _LENGTH or len(body) < size:
            raise self._failure()
        return body

    def _failure(self) -> PeerFailed:
        assert self._process is not None
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return PeerFailed(lines[-1] if lines else f"its process ended with exit code {code} without a word")
