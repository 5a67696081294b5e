"""Published clients and curl against the server: every answer is ONNX Runtime's own, bit for bit."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.bars.bar import Bar
from benchmarks.bars.serving.hosted import hosted
from benchmarks.bars.serving.samples import TOP, Samples, make_samples
from benchmarks.bars.serving.served import MODEL, Served, served
from benchmarks.bars.serving.wire import infer_path
from benchmarks.peers.environments import cache_folder, make_interpreter
from benchmarks.peers.process import PeerFailed, Say, stream
from quant.errors import Unsupported

__all__ = ["clients_bars"]

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[2]  # where the scripts find what they share
Ask = Callable[[Served, Path], list[str]]
"""Asks a server, leaves each way's outputs as ``WAY.npy`` in the folder, and names the ways."""

_PUBLISHED = {"tritonclient": "tritonclient_asks.py", "kserve": "kserve_asks.py"}


def clients_bars(bundle: Path, folder: Path, say: Say) -> list[Bar]:
    """Ask the server with every client; one bar each.

    Args:
        bundle: served.
        folder: for files on the way.
        say: told what happens.

    Raises:
        Unsupported: curl is absent, or a client cannot be installed.
    """
    samples = make_samples(bundle)
    np.save(folder / "x.npy", samples.inputs)
    pythons = {name: make_interpreter(_requirements(name), cache_folder(), say) for name in _PUBLISHED}
    askers = {name: _published(_PUBLISHED[name], python, samples) for name, python in pythons.items()}
    askers["curl"] = lambda server, out: _curl(server, out, samples)
    bars = []
    with served(bundle, folder / "clients.log") as server:
        for client, ask in askers.items():
            say(f"clients: {client}")
            bars.append(_bar(client, ask, server, folder / client, samples))
    say("clients: kserve, of KServe's own server")
    with hosted(pythons["kserve"], bundle, folder / "hosted.log") as server:
        what = "kserve, of the bundle in KServe's own server"
        bars.append(_bar(what, askers["kserve"], server, folder / "hosted", samples))
    return bars


def _bar(what: str, ask: Ask, server: Served, out: Path, samples: Samples) -> Bar:
    out.mkdir()
    wrong, remark = 1, ""
    try:
        ways = ask(server, out)
        different = [way for way in ways if not _same(out / f"{way}.npy", samples)]
        wrong, remark = len(different), f"{len(ways)} ways: {', '.join(ways)}"
        if different:
            remark = f"differ: {', '.join(different)}"
    except PeerFailed as error:
        remark = str(error)
    return Bar(f"{what}: ways with other outputs", "at most", 0, wrong, digits=0, remark=remark)


def _requirements(client: str) -> Path:
    return _HERE / "requirements" / f"{client}.txt"


def _same(file: Path, samples: Samples) -> bool:
    found = np.load(file)
    return bool(
        found.dtype == samples.outputs.dtype
        and found.shape == samples.outputs.shape
        and found.tobytes() == samples.outputs.tobytes()
    )


def _published(script: str, python: Path, samples: Samples) -> Ask:
    def ask(server: Served, out: Path) -> list[str]:
        given = {
            "http": f"127.0.0.1:{server.port}",
            "grpc": f"127.0.0.1:{server.grpc_port}",
            "model": MODEL,
            "inputs": str(out.parent / "x.npy"),
            "input_name": samples.name,
            "output_name": samples.output,
            "out": str(out),
        }
        job = out / "job.json"
        job.write_text(json.dumps(given))
        stream([python, _HERE / "scripts" / script, job], env=os.environ | {"PYTHONPATH": str(_ROOT)})
        return sorted(file.stem for file in out.glob("*.npy"))

    return ask


def _curl(server: Served, out: Path, samples: Samples) -> list[str]:
    """Numbers, bytes, and an image to labels."""
    if shutil.which("curl") is None:
        raise Unsupported("curl is absent; install it, or leave the clients out with --only")
    entry = {"name": samples.name, "datatype": "FP32", "shape": list(samples.inputs.shape)}
    text = json.dumps({"inputs": [{**entry, "data": samples.inputs.ravel().tolist()}]})
    (out / "numbers.json").write_text(text)
    raw = samples.inputs.tobytes()
    head = json.dumps(
        {
            "inputs": [{**entry, "parameters": {"binary_data_size": len(raw)}}],
            "outputs": [{"name": samples.output, "parameters": {"binary_data": True}}],
        }
    ).encode()
    (out / "bytes.bin").write_bytes(head + raw)
    (out / "image.png").write_bytes(samples.image)

    def post(path: str, file: str, *options: str) -> bytes:
        url = f"http://127.0.0.1:{server.port}{path}"
        answer = out / f"{file}.answer"
        stream(["curl", "-fsS", "-o", answer, "--data-binary", f"@{out / file}", *options, url])
        return answer.read_bytes()

    numbers = json.loads(post(infer_path(), "numbers.json", "-H", "Content-Type: application/json"))
    (told,) = numbers["outputs"]
    np.save(out / "json.npy", np.array(told["data"], np.float32).reshape(told["shape"]))
    header = f"Inference-Header-Content-Length: {len(head)}"
    for way, option in (("binary", "--http1.1"), ("binary-http2-wanted", "--http2")):
        answer = post(infer_path(), "bytes.bin", "-H", header, "-H", "Expect:", option)
        text_bytes = len(answer) - samples.outputs.nbytes
        (told,) = json.loads(answer[:text_bytes])["outputs"]
        np.save(out / f"{way}.npy", np.frombuffer(answer[text_bytes:], "<f4").reshape(told["shape"]))
    if json.loads(post(f"{infer_path('classify')}?top={TOP}", "image.png"))["answers"] != samples.labels:
        raise PeerFailed("the labels of an image are not those of the bundle in process")
    return ["json", "binary", "binary-http2-wanted"]
