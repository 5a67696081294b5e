"""A model repository, read with Triton's own schema.

``triton_schema/model_config.desc`` is the compiled ``model_config.proto`` of tritonclient 2.73.0 (NVIDIA,
BSD-3-Clause): the bytes of its ``grpc.model_config_pb2.DESCRIPTOR.serialized_pb``. The package itself wants
older releases of protobuf and ml_dtypes than this project has.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory, text_format

from deploy.bundle import Bundle
from deploy.bundle.layout import ENGINE, LABELS, MODEL, PLAN
from deploy.bundle.manifest import Manifest, Tensor
from deploy.bundle.preprocess import ArrayInput
from deploy.bundle.triton import TritonSettings, config_text, write_repository
from quant.errors import BadInput, Unsupported

SCHEMA = Path(__file__).parent / "triton_schema" / "model_config.desc"


def bundle(files: dict[str, bytes], batch: int | None = None, **changes: Any) -> Bundle:
    told_input = Tensor("input", "float32", (batch, 4, 2))
    manifest = Manifest(
        *("own.models:build", "int8", "ort-x86", "classification", told_input),
        Tensor("output", "float32", (batch, 3)),
        ArrayInput((4, 2)),
        *(None, ("CPUExecutionProvider",), {}),
        changes.pop("told", {"runtime": {"name": "onnxruntime"}}),
    )
    return Bundle("b.zip", replace(manifest, **changes), files, (), "")


def parsed(text: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(SCHEMA.read_bytes())
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))
    return text_format.Parse(text, kind())


def test_an_onnx_file_is_served_in_batches_on_the_processor(tmp_path: Path) -> None:
    served = bundle({MODEL: b"model", LABELS: b"a\nb\nc\n"})
    place = write_repository(served, tmp_path / "repository", TritonSettings(16, 2, 3, 700))
    assert place == tmp_path / "repository" / "own.models_build-int8"
    assert (place / "1" / "model.onnx").read_bytes() == b"model"
    assert (place / "labels.txt").read_bytes() == b"a\nb\nc\n"
    config = parsed((place / "config.pbtxt").read_text())
    assert (config.name, config.backend) == (place.name, "onnxruntime")
    assert config.default_model_filename == "model.onnx"
    assert config.max_batch_size == 16
    assert config.dynamic_batching.max_queue_delay_microseconds == 700
    (told_input,), (output,) = config.input, config.output
    assert (told_input.name, told_input.data_type, list(told_input.dims)) == ("input", 11, [4, 2])  # FP32
    assert (output.name, list(output.dims), output.label_filename) == ("output", [3], "labels.txt")
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, group.KIND_CPU)
    assert config.parameters["intra_op_thread_count"].string_value == "3"
    assert [(w.batch_size, list(w.inputs["input"].dims)) for w in config.model_warmup] == [
        (1, [4, 2]),
        (16, [4, 2]),
    ]
    assert all(warmup.inputs["input"].zero_data for warmup in config.model_warmup)


def test_a_fixed_batch_is_a_part_of_the_shape() -> None:
    config = parsed(config_text(bundle({MODEL: b""}, batch=1)))
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [1, 4, 2]
    assert list(config.output[0].dims) == [1, 3]
    (warmup,) = config.model_warmup
    assert list(warmup.inputs["input"].dims) == [1, 4, 2]


def test_an_engine_is_served_on_the_gpu_up_to_its_own_batch(tmp_path: Path) -> None:
    engine = {PLAN: b"plan", ENGINE: json.dumps({"settings": {"batches": [2, 4, 32]}}).encode()}
    served = bundle(engine, target="tensorrt", told={"runtime": {"name": "tensorrt"}})
    place = write_repository(served, tmp_path)
    assert (place / "1" / "model.plan").read_bytes() == b"plan"
    config = parsed((place / "config.pbtxt").read_text())
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert config.max_batch_size == 32
    assert [warmup.batch_size for warmup in config.model_warmup] == [2, 32]
    assert config.instance_group[0].kind == config.instance_group[0].KIND_GPU
    assert not config.parameters
    with pytest.raises(BadInput, match="max_batch 1, instances 0, threads 1 and queue_delay_us 500"):
        TritonSettings(max_batch=1, instances=0)
    for files, name, words in (
        (engine, "tensorrt_rtx", "no backend for TensorRT-RTX"),
        ({MODEL: b""}, "tensorrt", "package with --engine"),
    ):
        other = bundle(files, target="tensorrt", told={"runtime": {"name": name}})
        with pytest.raises(Unsupported, match=words):
            write_repository(other, tmp_path)


def test_only_the_model_itself_is_replaced(tmp_path: Path) -> None:
    place = write_repository(bundle({MODEL: b"old", LABELS: b"a\nb\nc\n"}), tmp_path)
    (tmp_path / "another").mkdir()
    write_repository(bundle({MODEL: b"new"}), tmp_path)
    assert (place / "1" / "model.onnx").read_bytes() == b"new"
    assert sorted(entry.name for entry in place.iterdir()) == ["1", "config.pbtxt"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["another", place.name]
    (place / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="is there and is no model of a Triton repository"):
        write_repository(bundle({MODEL: b"newer"}), tmp_path)
    assert (place / "1" / "model.onnx").read_bytes() == b"new"
