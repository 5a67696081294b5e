"""The protocol over gRPC, asked of a server in a process of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from deploy.bundle import load_bundle
from deploy.serve.messages import SERVICE, message
from tests.deploy.serve.made import IMAGE, Served

INPUTS = np.random.default_rng(0).standard_normal((2, *IMAGE)).astype(np.float32)


@pytest.fixture(scope="module")
def channel(server: Served) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


def call(channel: Any, method: str, request: bytes | Any) -> Any:
    content = request if isinstance(request, bytes) else request.SerializeToString()
    answer = channel.unary_unary(f"/{SERVICE}/{method}")(content, timeout=10)
    return message(f"{method}Response").FromString(answer)


def infer_request(**tensor: Any) -> Any:
    request = message("ModelInferRequest")(model_name="tiny-int8", id="seven")
    request.inputs.add(**{"name": "input", "datatype": "FP32", "shape": INPUTS.shape, **tensor})
    return request


def test_health_and_metadata(channel: Any) -> None:
    assert call(channel, "ServerLive", b"").live
    assert call(channel, "ServerReady", b"").ready
    assert call(channel, "ModelReady", message("ModelReadyRequest")(name="tiny-int8")).ready
    assert call(channel, "ServerMetadata", b"").name == "octavo"
    told = call(channel, "ModelMetadata", message("ModelMetadataRequest")(name="tiny-int8", version="1"))
    assert (told.inputs[0].datatype, list(told.outputs[0].shape)) == ("FP32", [-1, 5])


@pytest.mark.parametrize("raw", [True, False])
def test_tensors_come_back_bit_for_bit(channel: Any, bundle: Path, raw: bool) -> None:
    request = infer_request()
    if raw:
        request.raw_input_contents.append(INPUTS.tobytes())
    else:
        request.inputs[0].contents.fp32_contents.extend(INPUTS.reshape(-1).tolist())
    answer = call(channel, "ModelInfer", request)
    with load_bundle(bundle).runner() as runner:
        expected = runner.infer({"input": INPUTS})["output"]
    given = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(*answer.outputs[0].shape)
    assert np.array_equal(given, expected)
    assert (answer.id, answer.model_name) == ("seven", "tiny-int8")


@pytest.mark.parametrize(
    ("method", "request_bytes", "code", "words"),
    [
        ("ModelInfer", b"\xff\xff\xff", "INVALID_ARGUMENT", "no ModelInferRequest"),
        ("ModelReady", b"\x0a\xff", "INVALID_ARGUMENT", "no ModelReadyRequest"),
        ("ModelInfer", message("ModelInferRequest")(model_name="nope"), "NOT_FOUND", "no model 'nope'"),
        ("ModelReady", message("ModelReadyRequest")(name="nope"), "NOT_FOUND", "no model 'nope'"),
        ("ModelInfer", message("ModelInferRequest")(model_name="tiny-int8"), "INVALID_ARGUMENT", "0 inputs"),
        ("ModelInfer", infer_request(), "INVALID_ARGUMENT", "has 0 bytes"),
        ("ModelInfer", infer_request(datatype="INT8"), "INVALID_ARGUMENT", "takes FP32"),
        ("ModelInfer", infer_request(shape=[2**62, 3, 8, 8]), "INVALID_ARGUMENT", "the model takes"),
        ("RepositoryModelUnload", b"", "UNIMPLEMENTED", ""),
    ],
)
def test_what_does_not_fit_is_refused(
    channel: Any, method: str, request_bytes: Any, code: str, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, method, request_bytes)
    assert caught.value.code().name == code
    assert words in caught.value.details()


def test_raw_contents_that_do_not_go_with_the_inputs_are_refused(channel: Any) -> None:
    twice = infer_request()
    twice.raw_input_contents.extend([INPUTS.tobytes()] * 2)
    both = infer_request()
    both.raw_input_contents.append(INPUTS.tobytes())
    both.inputs[0].contents.fp32_contents.append(1.0)
    for request in (twice, both):
        with pytest.raises(grpc.RpcError, match="raw_input_contents has one entry"):
            call(channel, "ModelInfer", request)


def test_messages_that_are_too_large_are_refused(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "ModelInfer", bytes(2**21))
    assert caught.value.code().name == "RESOURCE_EXHAUSTED"


def test_calls_are_counted_with_those_of_http(server: Served, channel: Any) -> None:
    request = infer_request()
    request.raw_input_contents.append(INPUTS.tobytes())
    before = server.metric("octavo_accepted_total")
    call(channel, "ModelInfer", request)
    assert server.metric("octavo_accepted_total") == before + 1
    assert 'protocol="grpc",status="OK"' in server.get("/metrics").decode()
