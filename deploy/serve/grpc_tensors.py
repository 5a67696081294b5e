"""Requests and answers of the protocol as gRPC's messages."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.serve.messages import message
from deploy.serve.model import ServedModel, TensorSpec
from deploy.serve.refusal import bad_request
from deploy.serve.service import MODEL_VERSION
from deploy.serve.tensors import checked_shape, from_bytes, from_numbers

__all__ = ["inputs_of", "response_of"]

_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents",
    "UINT32": "uint_contents", "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents",
}  # fmt: skip
_RESPONSE = message("ModelInferResponse")


def inputs_of(request: Any, model: ServedModel) -> NDArray[Any]:
    """The input [N, ...] of a ``ModelInferRequest``.

    Raises:
        Refused: it breaks the protocol or does not fit the model.
    """
    if len(request.inputs) != 1:
        bad_request(f"there are {len(request.inputs)} inputs; one is needed, '{model.input.name}'")
    for wanted in request.outputs:
        if wanted.name != model.output.name:
            bad_request(f"the model has no output {wanted.name[:60]!r}; its output is '{model.output.name}'")
    (tensor,) = request.inputs
    shape = checked_shape(tensor.name, tensor.datatype, list(tensor.shape), model.input)
    if request.raw_input_contents:
        if len(request.raw_input_contents) != 1 or tensor.HasField("contents"):
            bad_request("raw_input_contents has one entry for each input, and then no input has contents")
        return from_bytes(request.raw_input_contents[0], shape, model.input)
    return _from_contents(tensor.contents, shape, model.input)


def _from_contents(contents: Any, shape: tuple[int, ...], spec: TensorSpec) -> NDArray[Any]:
    field = _CONTENTS.get(spec.datatype)
    if field is None:
        bad_request(f"{spec.datatype} is taken as raw_input_contents only")
    values = getattr(contents, field)
    if spec.dtype.kind == "f":  # NumPy takes these as they are; NaN and infinity are numbers here
        return from_bytes(np.array(values, spec.dtype.newbyteorder("<")).tobytes(), shape, spec)
    return from_numbers(list(values), shape, spec)


def response_of(request: Any, model: ServedModel, outputs: NDArray[Any]) -> Any:
    """The ``ModelInferResponse``, its tensor as raw contents."""
    output = model.output
    response = _RESPONSE(model_name=model.name, model_version=MODEL_VERSION, id=request.id)
    response.outputs.add(name=output.name, datatype=output.datatype, shape=outputs.shape)
    little = outputs.astype(outputs.dtype.newbyteorder("<"), copy=False)
    response.raw_output_contents.append(np.ascontiguousarray(little).tobytes())
    return response
