"""Small bundles, made in a moment, and a server of them in a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploy.bundle.layout import FORMAT, MANIFEST, MODEL, ORT_TARGETS, SUMS, VERSION, sums, zip_bytes
from deploy.bundle.manifest import to_json

IMAGE = (3, 8, 8)
OUTPUTS = 5
INFER = "/v2/models/tiny-int8/infer"
TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "uint8": TensorProto.UINT8}


def pixels(rows: int) -> Any:
    return np.random.default_rng(rows).standard_normal((rows, *IMAGE)).astype(np.float32)


def json_request(inputs: Any, **more: Any) -> bytes:
    tensor = {"name": "input", "datatype": "FP32", "shape": inputs.shape, "data": inputs.tolist()}
    return json.dumps({"inputs": [tensor], **more}).encode()


def classifier(size: Sequence[int] = IMAGE, dtype: str = "float32", batch: int | None = None) -> bytes:
    """An ONNX model that flattens, multiplies with random weights and adds."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((int(np.prod(size)), OUTPUTS)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["input"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("input", TYPES[dtype], [batch or "N", *size])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch or "N", OUTPUTS])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_bundle(
    path: Path,
    *,
    variant: str = "int8",
    size: Sequence[int] = IMAGE,
    dtype: str = "float32",
    images: bool = True,
    batch: int | None = None,
    model: bytes | None = None,
    outputs: int = OUTPUTS,
) -> Path:
    """Write a bundle for this machine.

    Args:
        path: a zip.
        variant: that the manifest names.
        size: of one sample.
        dtype: of the input.
        images: whether samples are images, or arrays.
        batch: a fixed one.
        model: instead of :func:`classifier`'s.
        outputs: of that model.
    """
    preprocessing: dict[str, Any] = {"kind": "none", "input_size": list(size)}
    if images:
        preprocessing = {
            "kind": "image", "input_size": list(size), "mean": [0.5] * size[0], "std": [0.5] * size[0],
            "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center",
            "color": "RGB" if size[0] == 3 else "L", "layout": "NCHW", "dtype": "float32",
            "exif_orientation": "ignored",
        }  # fmt: skip
    files = {MODEL: model or classifier(size, dtype, batch), "labels.txt": b""}
    files["labels.txt"] = "".join(f"label {i}\n" for i in range(outputs)).encode()
    told = {
        "format": FORMAT, "version": VERSION, "model": {"name": "tiny"}, "variant": variant,
        "target": ORT_TARGETS[os.uname().machine], "task": "classification", "saturation_guard": None,
        "measured": {"providers": ["CPUExecutionProvider"]}, "preprocessing": preprocessing,
        "inputs": [{"name": "input", "dtype": dtype, "shape": [batch, *size]}],
        "outputs": [{"name": "output", "dtype": "float32", "shape": [batch, outputs]}],
        "files": {
            name: {"sha256": sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in files.items()
        },
    }  # fmt: skip
    files[MANIFEST] = to_json(told)
    files[SUMS] = sums(files)
    path.write_bytes(zip_bytes(files))
    return path


@dataclass
class Served:
    """A server in a process of its own.

    Attributes:
        process: it.
        log: the file of its lines.
        port: of HTTP.
        grpc_port: of gRPC.
    """

    process: "subprocess.Popen[bytes]"
    log: Path
    port: int
    grpc_port: int | None

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def get(self, path: str) -> bytes:
        """The answer to a GET, whatever its status."""
        return self.ask("GET", path)[1]

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """Status, body and headers of an answer."""
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, data=body, headers=dict(headers or {}), method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read(), dict(error.headers)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = self.get("/metrics").decode().splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name
        )

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextlib.contextmanager
def served(folder: Path, *arguments: str, ready: bool = True) -> Iterator[Served]:
    """Serve on free ports until the block ends.

    Args:
        folder: for the log.
        arguments: bundles and options.
        ready: wait until it is ready, else until it listens.
    """
    log = folder / f"serve-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", "deploy.serve", *arguments, "--port", "0", "--grpc-port", "0"]
    root = Path(__file__).parents[3]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stderr=stream, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
        )
    try:
        told = _await(process, log, "listening")
        if ready:
            _await(process, log, "ready")
        yield Served(process, log, told["port"], told["grpc_port"])
    finally:
        process.kill()
        process.wait()


def _await(process: "subprocess.Popen[bytes]", log: Path, event: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for line in log.read_text().splitlines(keepends=True):
            if line.endswith("\n") and line.startswith("{") and json.loads(line)["event"] == event:
                return dict(json.loads(line))
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError(f"no '{event}' in {log.read_text()}")
