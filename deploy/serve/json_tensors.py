"""Requests and answers of the protocol as JSON, with or without tensors as bytes behind it.

Protocol: ``open-inference-protocol``, inference_rest.md; the binary extension has the length of the JSON in
the header ``Inference-Header-Content-Length``, and the tensors' bytes behind it, in order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from deploy.serve.model import ServedModel
from deploy.serve.refusal import bad_request
from deploy.serve.tensors import checked_shape, from_bytes, from_numbers, short, whole_number

__all__ = ["JSON_LENGTH", "JsonRequest", "parse_request", "render_answer"]

JSON_LENGTH = "Inference-Header-Content-Length"
_LONGEST_ID = 256


@dataclass(frozen=True)
class JsonRequest:
    """A request, checked.

    Attributes:
        id: that the answer repeats; None where there is none.
        inputs: [N, ...].
        binary: whether the answer's tensor is wanted as bytes.
    """

    id: str | None
    inputs: NDArray[Any]
    binary: bool


def parse_request(body: bytes, json_length: str | None, model: ServedModel) -> JsonRequest:
    """Read a request.

    Args:
        body: of it.
        json_length: the header :data:`JSON_LENGTH`, where there is one.
        model: that it is for.

    Raises:
        Refused: it breaks the protocol or does not fit the model.
    """
    text, tail = _parted(body, json_length)
    try:
        told = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        bad_request(f"the body is not JSON, at line {error.lineno} column {error.colno}")
    told = _object(told, "the body")
    request_id = told.get("id")
    if request_id is not None and (not isinstance(request_id, str) or len(request_id) > _LONGEST_ID):
        bad_request(f"id is {short(request_id)}; a text of at most {_LONGEST_ID} characters is allowed")
    inputs = told.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1:
        bad_request(f"inputs must be a list of one, '{model.input.name}'")
    given = _object(inputs[0], "an input")
    shape = checked_shape(given.get("name"), given.get("datatype"), given.get("shape"), model.input)
    return JsonRequest(request_id, _data(given, shape, tail, model), _wants_binary(told, model))


def _parted(body: bytes, json_length: str | None) -> tuple[bytes | memoryview, memoryview]:
    if json_length is None:
        return body, memoryview(b"")
    length = whole_number(json_length)
    if length is None or length > len(body):
        bad_request(f"{JSON_LENGTH} is {short(json_length)}; a length within the body is needed")
    view = memoryview(body)
    return view[:length], view[length:]


def _data(
    given: Mapping[str, Any], shape: tuple[int, ...], tail: memoryview, model: ServedModel
) -> NDArray[Any]:
    size = _object(given.get("parameters", {}), "parameters").get("binary_data_size")
    if size is None:
        if len(tail):
            bad_request("there are bytes behind the JSON, but no input with binary_data_size")
        return from_numbers(given.get("data"), shape, model.input)
    if "data" in given:
        bad_request("an input has either data or binary_data_size, not both")
    if type(size) is not int or size != len(tail):
        bad_request(f"binary_data_size is {short(size)}; {len(tail)} bytes are behind the JSON")
    return from_bytes(tail, shape, model.input)


def _wants_binary(told: Mapping[str, Any], model: ServedModel) -> bool:
    binary = _flag(_object(told.get("parameters", {}), "parameters"), "binary_data_output", False)
    outputs = told.get("outputs")
    if outputs is None:
        return binary
    if not isinstance(outputs, list) or len(outputs) > 1:
        bad_request(f"outputs must be a list of at most one, '{model.output.name}'")
    for wanted in outputs:
        entry = _object(wanted, "an output")
        if entry.get("name") != model.output.name:
            bad_request(
                f"the model has no output {short(entry.get('name'))}; its output is '{model.output.name}'"
            )
        parameters = _object(entry.get("parameters", {}), "parameters")
        if parameters.get("classification"):
            bad_request("classification of an output is not offered; POST the image to .../classify")
        binary = _flag(parameters, "binary_data", binary)
    return binary


def _flag(values: Mapping[str, Any], key: str, default: bool) -> bool:
    value = values.get(key, default)
    if not isinstance(value, bool):
        bad_request(f"{key} is {short(value)}; allowed are true and false")
    return value


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        bad_request(f"{what} is {short(value)}; a JSON object is needed")
    return value


def render_answer(
    model: ServedModel, request: JsonRequest, outputs: NDArray[Any]
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an answer.

    Raises:
        Refused: numbers that JSON has no name for, which bytes could carry.
    """
    output: dict[str, Any] = {
        "name": model.output.name,
        "datatype": model.output.datatype,
        "shape": list(outputs.shape),
    }
    answer: dict[str, Any] = {"model_name": model.name, "model_version": "1", "outputs": [output]}
    if request.id is not None:
        answer["id"] = request.id
    if request.binary:
        raw = np.ascontiguousarray(outputs.astype(outputs.dtype.newbyteorder("<"), copy=False)).tobytes()
        output["parameters"] = {"binary_data_size": len(raw)}
        text = orjson.dumps(answer)
        return text + raw, {"content-type": "application/octet-stream", JSON_LENGTH: str(len(text))}
    if outputs.dtype.kind == "f" and not np.isfinite(outputs).all():
        bad_request("the answer to these inputs is not finite, which JSON cannot say; ask for binary_data")
    flat = np.ascontiguousarray(outputs).reshape(-1)
    output["data"] = flat.astype(np.float32) if flat.dtype == np.float16 else flat
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), {"content-type": "application/json"}
