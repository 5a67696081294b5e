"""The protocol over HTTP, asked of a server in a process of its own."""

import http.client
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.bundle import load_bundle
from tests.deploy.serve.made import IMAGE, INFER, Served, json_request, make_bundle, pixels, served

CLASSIFY = "/v2/models/tiny-int8/classify"


def reference(bundle: Path, inputs: Any) -> Any:
    with load_bundle(bundle).runner() as runner:
        return runner.infer({"input": inputs})["output"]


def image_file(mode: str = "RGB", size: tuple[int, int] = (20, 12), kind: str = "PNG") -> bytes:
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def test_health_and_metadata(server: Served) -> None:
    assert server.ask("GET", "/v2/health/live")[0] == 200
    assert server.ask("GET", "/v2/health/ready")[0] == 200
    assert server.ask("GET", "/v2/models/tiny-int8/ready")[0] == 200
    assert json.loads(server.get("/v2"))["extensions"] == ["binary_tensor_data"]
    told = json.loads(server.get("/v2/models/tiny-int8"))
    assert told == json.loads(server.get("/v2/models/tiny-int8/versions/1"))
    assert told["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, *IMAGE]}]
    assert told["outputs"] == [{"name": "output", "datatype": "FP32", "shape": [-1, 5]}]


@pytest.mark.parametrize("rows", [1, 3, 9])  # 9 is above the largest batch
@pytest.mark.parametrize("flat", [True, False])
def test_json_numbers_come_back_bit_for_bit(server: Served, bundle: Path, rows: int, flat: bool) -> None:
    inputs = pixels(rows)
    body = json.loads(json_request(inputs, id="seven"))
    if flat:
        body["inputs"][0]["data"] = inputs.reshape(-1).tolist()
    status, answer, _ = server.ask("POST", INFER, json.dumps(body).encode())
    told = json.loads(answer)
    (output,) = told["outputs"]
    assert status == 200, answer
    assert (told["id"], told["model_name"], output["shape"]) == ("seven", "tiny-int8", [rows, 5])
    given = np.array(output["data"], np.float32).reshape(rows, 5)
    assert np.array_equal(given, reference(bundle, inputs))


@pytest.mark.parametrize("asked", ["output", "request"])
def test_binary_tensors_both_ways(server: Served, bundle: Path, asked: str) -> None:
    inputs = pixels(2)
    parameters = {"binary_data_size": inputs.nbytes}
    told: dict[str, Any] = {
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [2, *IMAGE], "parameters": parameters}]
    }
    if asked == "output":
        told["outputs"] = [{"name": "output", "parameters": {"binary_data": True}}]
    else:
        told["parameters"] = {"binary_data_output": True}
    text = json.dumps(told).encode() + b" " * 3  # the tensor's bytes begin at an odd place
    headers = {"Inference-Header-Content-Length": str(len(text))}
    status, answer, got = server.ask("POST", INFER, text + inputs.tobytes(), headers)
    assert status == 200, answer
    length = int(got["inference-header-content-length"])
    assert json.loads(answer[:length])["outputs"][0]["parameters"]["binary_data_size"] == 2 * 5 * 4
    assert np.array_equal(np.frombuffer(answer[length:], "<f4").reshape(2, 5), reference(bundle, inputs))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"inputs": []}, "inputs must be a list of one"),
        ({"inputs.0.name": "x"}, "the model has no input 'x'; its input is 'input'"),
        ({"inputs.0.datatype": "INT8"}, "the model takes FP32"),
        ({"inputs.0.shape": [1, 3, 8, 9]}, r"the model takes [-1, 3, 8, 8]"),
        ({"inputs.0.shape": [-1, 3, 8, 8]}, "the model takes"),
        ({"inputs.0.shape": [True, 3, 8, 8]}, "the model takes"),
        ({"inputs.0.shape": [2, 3, 8, 8]}, "has data of shape"),
        ({"inputs.0.data": [1.0]}, "has data of shape [1] for shape [1, 3, 8, 8]"),
        ({"inputs.0.data": [[1.0], [1.0, 2.0]]}, "lists of different lengths"),
        ({"inputs.0.data": ["1"] * 192}, "data that is not FP32"),
        ({"inputs.0.data": [True] * 192}, "data that is not FP32"),
        ({"inputs.0.data": [None] * 192}, "data that is not FP32"),
        ({"inputs.0.data": [1e39] * 192}, "does not fit FP32"),
        ({"inputs.0.data": 1.0}, "a list of numbers is needed"),
        ({"inputs.0.parameters": {"binary_data_size": 768}}, "either data or binary_data_size"),
        ({"inputs.0.parameters": 3}, "parameters is 3; a JSON object is needed"),
        ({"outputs": [{"name": "x"}]}, "the model has no output 'x'"),
        ({"outputs": [{"name": "output", "parameters": {"classification": 3}}]}, "not offered"),
        ({"outputs": [{"name": "output", "parameters": {"binary_data": 1}}]}, "allowed are true and false"),
        ({"id": 7}, "id is 7"),
        ({"id": "x" * 300}, "at most 256 characters"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(server: Served, change: Any, words: str) -> None:
    told = json.loads(json_request(pixels(1)))
    ((path, value),) = change.items()
    *keys, last = (int(key) if key.isdigit() else key for key in path.split("."))
    at: Any = told
    for key in keys:
        at = at[key]
    at[last] = value
    status, answer, _ = server.ask("POST", INFER, json.dumps(told).encode())
    assert status == 400
    assert words in json.loads(answer)["error"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe{}", b'{"inputs": NaN}', b"[" * 5000, b"7"])
def test_what_is_no_request_is_refused(server: Served, body: bytes) -> None:
    status, answer, _ = server.ask("POST", INFER, body)
    assert status == 400
    assert "error" in json.loads(answer)


@pytest.mark.parametrize("length", ["-1", "999999", "x", "1e3", "９", "1" * 400])
def test_a_false_length_of_the_json_is_refused(server: Served, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length.encode().decode("latin-1")}
    assert server.ask("POST", INFER, json_request(pixels(1)), headers)[0] == 400


def test_a_huge_text_among_numbers_takes_no_memory(server: Served) -> None:
    told = json.loads(json_request(pixels(1)))
    told["inputs"][0]["data"] = ["x" * 500_000, *[1.0] * 191]
    before = server.metric("process_resident_memory_bytes")
    assert server.ask("POST", INFER, json.dumps(told).encode())[0] == 400
    assert server.metric("process_resident_memory_bytes") - before < 50 * 2**20  # NumPy would take 384 MB


def test_an_answer_that_is_not_finite_comes_as_bytes_only(server: Served) -> None:
    inputs = np.full((1, *IMAGE), 3e38, np.float32)
    status, answer, _ = server.ask("POST", INFER, json_request(inputs))
    assert status == 400
    assert "not finite" in json.loads(answer)["error"]
    assert server.ask("POST", INFER, json_request(inputs, parameters={"binary_data_output": True}))[0] == 200


@pytest.mark.parametrize(
    "path", ["/nope", "/v2/models/nope", "/v2/models/tiny-int8/versions/2", "/v2/models/"]
)
def test_unknown_addresses_are_404(server: Served, path: str) -> None:
    status, answer, _ = server.ask("GET", path)
    assert (status, list(json.loads(answer))) == (404, ["error"])


def test_unknown_models_are_404_and_other_methods_405(server: Served) -> None:
    assert server.ask("POST", "/v2/models/..%2f..%2fetc/infer", b"{}")[0] == 404
    assert server.ask("GET", INFER)[0] == 405
    assert server.ask("POST", "/v2", b"")[0] == 405


@pytest.mark.parametrize(
    "content",
    [
        image_file(),
        image_file(kind="JPEG"),
        image_file("L"),
        image_file("RGBA"),
        image_file("P"),
        image_file(size=(400, 300)),
    ],
)
def test_an_image_gets_the_answers_of_the_bundle(server: Served, bundle: Path, content: bytes) -> None:
    loaded = load_bundle(bundle)
    with loaded.runner() as runner:
        (expected,) = loaded.predict(runner, [content], top=3)
    status, answer, _ = server.ask("POST", f"{CLASSIFY}?top=3", content)
    told = json.loads(answer)
    assert status == 200, answer
    assert told["answers"] == [{"index": a.index, "label": a.label, "score": a.score} for a in expected]
    assert told["ms"]["total"] >= told["ms"]["infer"] > 0


def test_images_that_are_none_or_too_large_are_refused(server: Served) -> None:
    assert server.ask("POST", CLASSIFY, b"GIF89a" + bytes(50))[0] == 400
    assert server.ask("POST", CLASSIFY, image_file()[:90])[0] == 400
    assert server.ask("POST", CLASSIFY, b"")[0] == 400
    assert server.ask("POST", f"{CLASSIFY}?top=0", image_file())[0] == 400
    narrow = io.BytesIO()
    Image.new("L", (2, 60_000)).save(narrow, "PNG")  # small itself; the resize would make it large
    assert server.ask("POST", CLASSIFY, narrow.getvalue())[0] == 200  # 8 × 240,000 pixels are few
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    assert server.ask("POST", CLASSIFY, bomb.getvalue())[0] == 413
    status, answer, _ = server.ask("POST", "/v2/models/arrays/classify", image_file())
    assert (status, "takes no images" in answer.decode()) == (400, True)
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert server.ask("POST", CLASSIFY, b"--x--", form)[0] == 415


def test_bodies_that_are_too_large_are_refused_and_the_connection_goes_on(server: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for body, headers in (
        (b"x" * (2**20 + 1), {}),
        (iter([b"x" * 2**19] * 3), {"transfer-encoding": "chunked"}),
    ):
        connection.request("POST", INFER, body, headers, encode_chunked=bool(headers))
        answer = connection.getresponse()
        assert (answer.status, b"1048576 bytes" in answer.read()) == (413, True)
    connection.request("POST", INFER, json_request(pixels(1)))
    assert connection.getresponse().status == 200


def test_compressed_bodies_are_refused(server: Served) -> None:
    assert server.ask("POST", INFER, b"x", {"content-encoding": "gzip"})[0] == 415


def test_requests_are_counted_and_logged(server: Served) -> None:
    before = server.metric("octavo_requests_total")
    server.ask("POST", INFER, json_request(pixels(1), id='a"b\nc'))
    server.ask("POST", INFER, b"{")
    assert server.metric("octavo_requests_total") == before + 2
    good, bad = [line for line in server.lines() if line["event"] == "request"][-2:]
    assert (good["status"], good["model"], good["id"], good["rows"]) == (200, "tiny-int8", 'a"b\nc', 1)
    assert (bad["status"], bad["reason"]) == (400, "invalid")
    assert server.metric("octavo_in_flight") == 0
    assert server.metric("octavo_ready") == 1


def test_a_model_that_takes_one_sample_at_a_time(folder: Path) -> None:
    one = make_bundle(folder / "one.zip", batch=1, variant="one")
    with served(folder, str(one)) as server:
        path = "/v2/models/tiny-one/infer"
        assert server.ask("POST", path, json_request(pixels(1)))[0] == 200
        assert server.ask("POST", path, json_request(pixels(2)))[0] == 400


def test_the_database_of_telemetry_is_not_opened(server: Served) -> None:
    folder = Path(f"/proc/{server.process.pid}/fd")
    opened = [link.readlink() for link in folder.iterdir()]
    assert not [path for path in opened if "Microsoft" in str(path) or path.suffix == ".db"]
