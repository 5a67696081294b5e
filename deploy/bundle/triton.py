"""A bundle as a model of a Triton model repository: ``config.pbtxt``, ``1/model.onnx`` or ``1/model.plan``.

The server takes the tensor that :meth:`deploy.bundle.bundle.Bundle.prepare` makes, and gives the model's own
outputs.

Source: Triton's ``model_config.proto`` and its documentation, "Model Configuration".
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.bundle.bundle import Bundle
from deploy.bundle.layout import ENGINE, LABELS, MODEL, PLAN
from deploy.bundle.manifest import Tensor
from deploy.bundle.write import write_folder
from quant.errors import BadInput, Unsupported

__all__ = ["TritonSettings", "config_text", "model_name", "write_repository"]

_CONFIG, _VERSION = "config.pbtxt", "1"
_OWN = {_CONFIG, _VERSION, LABELS}
_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "int64": "TYPE_INT64", "uint8": "TYPE_UINT8"}


class _Word(str):
    """A word of the schema, which is written without quotes."""


@dataclass(frozen=True)
class TritonSettings:
    """How the server runs a model.

    Attributes:
        max_batch: images per call at most; that of an engine is its own.
        instances: executions side by side.
        threads: of ONNX Runtime, inside one operator.
        queue_delay_us: how long a request may wait for others to share its call, in microseconds.
    """

    max_batch: int = 8
    instances: int = 1
    threads: int = 1
    queue_delay_us: int = 500

    def __post_init__(self) -> None:
        if min(self.max_batch, self.instances, self.threads) < 1 or self.queue_delay_us < 0:
            raise BadInput(
                f"max_batch {self.max_batch}, instances {self.instances}, threads {self.threads} and "
                f"queue_delay_us {self.queue_delay_us} are given; allowed: at least 1, and 0 for the last"
            )


def model_name(bundle: Bundle) -> str:
    """What the server calls it: ``MODEL-VARIANT`` in letters, digits and ``_.-``."""
    manifest = bundle.manifest
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{manifest.model}-{manifest.variant}")


def write_repository(bundle: Bundle, folder: Path, settings: TritonSettings | None = None) -> Path:
    """Lay a bundle into a model repository; the same model that is there is replaced.

    Args:
        bundle: what is served.
        folder: the repository.
        settings: see there; None means the defaults.

    Returns:
        The model's folder.

    Raises:
        BadInput: something else has its place.
        Unsupported: the server has no backend for it.
    """
    place = folder / model_name(bundle)
    if place.is_symlink() or (place.exists() and not _is_ours(place)):
        raise BadInput(
            f"{place}: is there and is no model of a Triton repository; remove it, or give another folder"
        )
    files = {_CONFIG: config_text(bundle, settings).encode()}
    name = PLAN if PLAN in bundle.files else MODEL
    files[f"{_VERSION}/{_file_name(bundle)}"] = bundle.files[name]
    if LABELS in bundle.files:
        files[LABELS] = bundle.files[LABELS]
    place.parent.mkdir(parents=True, exist_ok=True)
    write_folder(files, place)
    return place


def config_text(bundle: Bundle, settings: TritonSettings | None = None) -> str:
    """The model's ``config.pbtxt``: instances, dynamic batching, and a call of each kind before it serves.

    Raises:
        Unsupported: the server has no backend for it.
    """
    settings = settings or TritonSettings()
    engine = PLAN in bundle.files
    _check_backend(bundle, engine)
    told_input, told_output = bundle.manifest.model_input, bundle.manifest.model_output
    batches = told_input.shape[0] is None
    least, most = 1, settings.max_batch
    if engine:
        least, _, most = json.loads(bundle.files[ENGINE])["settings"]["batches"]
    output = _tensor(told_output, batches)
    if LABELS in bundle.files:
        output["label_filename"] = LABELS
    config: dict[str, Any] = {
        "name": model_name(bundle),
        "backend": "tensorrt" if engine else "onnxruntime",
        "default_model_filename": _file_name(bundle),
        "max_batch_size": most if batches else 0,
        "input": [_tensor(told_input, batches)],
        "output": [output],
        "instance_group": [
            {"count": settings.instances, "kind": _Word("KIND_GPU" if engine else "KIND_CPU")}
        ],
    }
    if batches:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": settings.queue_delay_us}
    if not engine:
        config["parameters"] = [
            {"key": "intra_op_thread_count", "value": {"string_value": str(settings.threads)}},
            {"key": "inter_op_thread_count", "value": {"string_value": "1"}},
        ]
    sizes = dict.fromkeys((least, most)) if batches else (0,)
    config["model_warmup"] = [_warmup(told_input, size, batches) for size in sizes]
    return "\n".join(_lines(config)) + "\n"


def _check_backend(bundle: Bundle, engine: bool) -> None:
    runtime = bundle.manifest.told["runtime"]["name"]
    if runtime == "tensorrt_rtx":
        raise Unsupported(
            f"{bundle.path}: Triton has no backend for TensorRT-RTX; build with --library tensorrt"
        )
    if not engine and bundle.manifest.target.startswith("tensorrt"):
        raise Unsupported(
            f"{bundle.path}: Triton runs engines of TensorRT; run `octavo build` and package with --engine"
        )
    for tensor in (bundle.manifest.model_input, bundle.manifest.model_output):
        if tensor.dtype not in _TYPES:
            raise Unsupported(f"{bundle.path}: '{tensor.name}' is {tensor.dtype}; known: {', '.join(_TYPES)}")


def _file_name(bundle: Bundle) -> str:
    return "model.plan" if PLAN in bundle.files else MODEL


def _tensor(told: Tensor, batches: bool) -> dict[str, Any]:
    return {"name": told.name, "data_type": _Word(_TYPES[told.dtype]), "dims": _dims(told, batches)}


def _dims(told: Tensor, batches: bool) -> list[int]:
    """A shape; the batch's size is not a part of it where the server makes batches."""
    return [-1 if size is None else size for size in told.shape[1 if batches else 0 :]]


def _warmup(told: Tensor, size: int, batches: bool) -> dict[str, Any]:
    zeros = {"data_type": _Word(_TYPES[told.dtype]), "dims": _dims(told, batches), "zero_data": True}
    return {"name": f"batch_{size or 1}", "batch_size": size, "inputs": [{"key": told.name, "value": zeros}]}


def _lines(message: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A message in protobuf's text format."""
    for key, value in message.items():
        many = isinstance(value, Sequence) and not isinstance(value, str)
        for one in value if many else (value,):
            if isinstance(one, Mapping):
                yield f"{indent}{key} {{"
                yield from _lines(one, indent + "  ")
                yield f"{indent}}}"
            else:
                yield f"{indent}{key}: {one if isinstance(one, _Word) else json.dumps(one)}"


def _is_ours(place: Path) -> bool:
    return place.is_dir() and {entry.name for entry in place.iterdir()} <= _OWN
