"""The messages are those of the published protocol."""

from pathlib import Path

from google.protobuf import descriptor_pb2

from deploy.serve.messages import METHODS, file_descriptor, message

PUBLISHED = Path(__file__).with_name("open_inference_grpc.binpb")
"""The descriptor of open_inference_grpc.proto, as protoc compiles it, without its comments."""


def test_every_message_has_the_published_names_numbers_and_types() -> None:
    published = descriptor_pb2.FileDescriptorProto.FromString(PUBLISHED.read_bytes())
    theirs = {message.name: message for message in published.message_type}
    ours = {message.name: message for message in file_descriptor().message_type}
    assert {f"{name}{end}" for name in METHODS for end in ("Request", "Response")} <= ours.keys()
    for name, described in ours.items():
        assert _plain(described) == _plain(theirs[name]), name


def _plain(described: descriptor_pb2.DescriptorProto) -> descriptor_pb2.DescriptorProto:
    """Without JSON names, which protoc derives from the others, and in one order."""
    plain = descriptor_pb2.DescriptorProto()
    plain.CopyFrom(described)
    for field in plain.field:
        field.ClearField("json_name")
    nested = sorted((_plain(one) for one in plain.nested_type), key=lambda one: one.name)
    del plain.nested_type[:]
    plain.nested_type.extend(nested)
    return plain


def test_a_map_and_a_oneof_work() -> None:
    request = message("ModelInferRequest")()
    request.parameters["a"].int64_param = 3
    request.parameters["a"].bool_param = True
    parsed = message("ModelInferRequest").FromString(request.SerializeToString())
    assert parsed.parameters["a"].WhichOneof("parameter_choice") == "bool_param"
