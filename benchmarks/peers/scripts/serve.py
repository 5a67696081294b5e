"""Run one model for another process: ``serve.py BACKEND MODEL SETTINGS_JSON``.

Once the model is loaded, eight bytes of zero are written. Then every request and every answer is its length
(eight bytes, little endian) and an ``.npz`` of arrays by name. The end of standard input ends it. What cannot
be done ends it too, with the reason as the last line on standard error.
"""

import io
import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from deploy.runner import Runner
from quant.errors import OctavoError

_LENGTH = 8


def _open(backend: str, model: Path, settings: dict[str, Any]) -> Runner:
    if backend == "openvino":
        from deploy.openvino.build import CompileSettings
        from deploy.openvino.run import OpenVinoRunner

        return OpenVinoRunner(model, CompileSettings(**settings))
    from deploy.onnxruntime.build import SessionSettings
    from deploy.onnxruntime.run import OrtRunner

    return OrtRunner(model, SessionSettings(**settings))


def _serve(runner: Runner, source: BinaryIO, sink: BinaryIO) -> None:
    with runner:
        sink.write(bytes(_LENGTH))
        sink.flush()
        while len(head := source.read(_LENGTH)) == _LENGTH:
            with np.load(io.BytesIO(source.read(int.from_bytes(head, "little")))) as feeds:
                outputs = runner.infer(dict(feeds))
            packed = io.BytesIO()
            np.savez(packed, **outputs)  # type: ignore[arg-type]  # a name may be anything but `file`
            sink.write(packed.tell().to_bytes(_LENGTH, "little") + packed.getvalue())
            sink.flush()


def main() -> int:
    """Serve until standard input ends."""
    # What a library prints must not get between the answers.
    with os.fdopen(os.dup(1), "wb") as sink:
        os.dup2(2, 1)
        try:
            _serve(_open(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])), sys.stdin.buffer, sink)
        except OctavoError as error:
            print(" ".join(str(error).split()), file=sys.stderr, flush=True)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
