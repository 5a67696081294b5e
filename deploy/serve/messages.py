"""The messages of the protocol's gRPC service, as a table.

Protocol: ``open-inference-protocol``, specification/protocol/open_inference_grpc.proto, package
``inference``, service ``GRPCInferenceService``. Made at run time from the table, so that they fit whatever
release of protobuf is installed; a test compares the table with the published descriptor.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["METHODS", "SERVICE", "file_descriptor", "message"]

SERVICE = "inference.GRPCInferenceService"
METHODS = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
"""Each takes NAMERequest and gives NAMEResponse."""

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "bool": _Field.TYPE_BOOL, "int32": _Field.TYPE_INT32, "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32, "uint64": _Field.TYPE_UINT64, "float": _Field.TYPE_FLOAT,
    "double": _Field.TYPE_DOUBLE, "string": _Field.TYPE_STRING, "bytes": _Field.TYPE_BYTES,
}  # fmt: skip
_TENSOR = "name:string datatype:string shape:int64*"
_PARAMETERS = "parameters:InferParameter%"
_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool",
    "ModelReadyRequest": "name:string version:string",
    "ModelReadyResponse": "ready:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string version:string extensions:string*",
    "ModelMetadataRequest": "name:string version:string",
    "ModelMetadataResponse": (
        "name:string versions:string* platform:string inputs:ModelMetadataResponse.TensorMetadata* "
        "outputs:ModelMetadataResponse.TensorMetadata*"
    ),
    "ModelMetadataResponse.TensorMetadata": _TENSOR,
    "ModelInferRequest": (
        f"model_name:string model_version:string id:string {_PARAMETERS} "
        "inputs:ModelInferRequest.InferInputTensor* "
        "outputs:ModelInferRequest.InferRequestedOutputTensor* raw_input_contents:bytes*"
    ),
    "ModelInferRequest.InferInputTensor": f"{_TENSOR} {_PARAMETERS} contents:InferTensorContents",
    "ModelInferRequest.InferRequestedOutputTensor": f"name:string {_PARAMETERS}",
    "ModelInferResponse": (
        f"model_name:string model_version:string id:string {_PARAMETERS} "
        "outputs:ModelInferResponse.InferOutputTensor* raw_output_contents:bytes*"
    ),
    "ModelInferResponse.InferOutputTensor": f"{_TENSOR} {_PARAMETERS} contents:InferTensorContents",
    "InferParameter": (
        "bool_param:bool|parameter_choice int64_param:int64|parameter_choice "
        "string_param:string|parameter_choice"
    ),
    "InferTensorContents": (
        "bool_contents:bool* int_contents:int32* int64_contents:int64* uint_contents:uint32* "
        "uint64_contents:uint64* fp32_contents:float* fp64_contents:double* bytes_contents:bytes*"
    ),
}
"""``name:type`` in the order of their numbers; ``*`` is repeated, ``%`` a map from strings, ``|`` a oneof."""


def file_descriptor() -> descriptor_pb2.FileDescriptorProto:
    """The table as protobuf describes a file."""
    file = descriptor_pb2.FileDescriptorProto(
        name="octavo/inference.proto", package="inference", syntax="proto3"
    )
    made: dict[str, Any] = {}
    for path, fields in _MESSAGES.items():
        outer, _, name = path.rpartition(".")
        made[path] = (made[outer].nested_type if outer else file.message_type).add(name=name)
        for number, field in enumerate(fields.split(), 1):
            _add(made[path], path, number, *field.split(":"))
    return file


def _add(owner: Any, path: str, number: int, name: str, kind: str) -> None:
    kind, _, oneof = kind.partition("|")
    field = owner.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if kind.endswith("%"):  # a map is a repeated message of key and value (protobuf's language guide, maps)
        entry = owner.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add(entry, path, 1, "key", "string")
        _add(entry, path, 2, "value", kind[:-1])
        kind = f"{path}.{entry.name}*"
    if kind.endswith("*"):
        kind, field.label = kind[:-1], _Field.LABEL_REPEATED
    if kind in _TYPES:
        field.type = _TYPES[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".inference.{kind}"
    if oneof:
        if not owner.oneof_decl:
            owner.oneof_decl.add(name=oneof)
        field.oneof_index = 0


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(file_descriptor())


def message(name: str) -> Any:
    """The class of a message, such as ``ModelInferRequest`` or ``ModelInferResponse.InferOutputTensor``."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"inference.{name}"))
