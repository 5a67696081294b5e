"""The manifest of a variant: what the run knows of it, and nothing of the machine's folders or clock."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx.helper import tensor_dtype_to_np_dtype

from deploy.bundle.layout import FORMAT, VERSION
from deploy.bundle.license import License
from deploy.bundle.manifest import TASKS
from deploy.bundle.select import Choice
from quant.errors import BadInput, Unsupported

__all__ = ["ModelFacts", "facts_of", "manifest_of", "recorded_preprocessing"]

_LATENCY = ("batch", "threads", "processes", "median_ms", "p90_ms", "p99_ms", "images_per_s", "speedup")
_DEVICE = ("cpu", "architecture", "isa", "cores", "memory_gib", "governor", "system", "thread_variables")


@dataclass(frozen=True)
class ModelFacts:
    """What an ONNX file that Octavo wrote says of itself.

    Attributes:
        inputs: its input, as the manifest has it.
        outputs: its output.
        width: how many outputs each sample has; None where it is open.
        preprocessing: as the manifest has it.
        versions: of Octavo and the libraries that made it.
        weights_sha256: of the file of weights; None where they came from elsewhere.
        formats: operator sets and version of the format.
    """

    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    width: int | None
    preprocessing: dict[str, Any]
    versions: dict[str, str]
    weights_sha256: str | None
    formats: dict[str, Any]


def facts_of(model: onnx.ModelProto, where: str) -> ModelFacts:
    """Read them.

    Args:
        model: the file's content.
        where: what messages call it.

    Raises:
        BadInput: Octavo did not write it.
        Unsupported: it has several inputs or outputs.
    """
    told = {entry.key: entry.value for entry in model.metadata_props}
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [_tensor(value) for value in model.graph.input if value.name not in weights]
    outputs = [_tensor(value) for value in model.graph.output]
    if len(inputs) != 1 or len(outputs) != 1:
        raise Unsupported(
            f"{where}: has {len(inputs)} inputs and {len(outputs)} outputs; a bundle takes one of each"
        )
    try:
        return ModelFacts(
            inputs=inputs,
            outputs=outputs,
            width=outputs[0]["shape"][-1] or int(told["octavo.num_classes"] or 0) or None,
            preprocessing=recorded_preprocessing(json.loads(told["octavo.preprocessing"])),
            versions=json.loads(told["octavo.versions"]),
            weights_sha256=told["octavo.weights_sha256"] or None,
            formats={
                "opsets": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
                "ir_version": model.ir_version,
            },
        )
    except (ValueError, KeyError) as error:
        raise BadInput(f"{where}: was not written by Octavo; run `octavo lower` again") from error


def manifest_of(
    summary: Mapping[str, Any],
    choice: Choice,
    facts: ModelFacts,
    guard: str | None,
    engine: Mapping[str, Any] | None,
    weights_license: License,
    files: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """All that ``manifest.json`` says.

    Args:
        summary: the run's summary, as JSON values.
        choice: the variant.
        facts: of its model.
        guard: of its integer products; None of a float model.
        engine: what ``engine.json`` says, where the bundle has an engine in the place of the model.
        weights_license: of the weights.
        files: SHA-256 and size of each file.
    """
    entry, task = choice.entry, summary["settings"]["task"]
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": {
            "name": summary["model"],
            "weights_sha256": facts.weights_sha256,
            "license": {"spdx": weights_license.spdx, "file": weights_license.text is not None},
        },
        "variant": choice.variant,
        "target": choice.target,
        "task": task,
        "scores": TASKS[task],
        "inputs": facts.inputs,
        "outputs": facts.outputs,
        "preprocessing": facts.preprocessing,
        "saturation_guard": guard,
        "onnx": facts.formats,
        "runtime": _runtime(summary, choice, engine),
        "accuracy": entry["accuracy"],
        "latency": _latencies(summary, choice),
        "peak_memory_mib": entry["memory"] and entry["memory"]["peak_mib"],
        "reference": {"name": choice.reference["name"], "accuracy": choice.reference["accuracy"]},
        "parity": choice.parity and {"passed": not choice.doubts, "stages": choice.parity},
        "measured": _measured(summary, entry),
        "versions": facts.versions,
        "files": files,
    }


def recorded_preprocessing(told: Mapping[str, Any]) -> dict[str, Any]:
    """Of the model's metadata, with what else somebody must know who has only the manifest."""
    if told.get("kind") == "tensor":
        return {"kind": "none", "input_size": told["input_size"], "dtype": "float32"}
    color = "RGB" if told["input_size"][0] == 3 else "L"
    fixed = {"kind": "image", "exif_orientation": "ignored", "layout": "NCHW", "dtype": "float32"}
    return {**told, **fixed, "color": color}


def _measured(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions of accuracy and latency."""
    environment, images = summary["environment"], summary["settings"]["validation"]
    return {
        "created": summary["created"],
        "note": entry["note"],
        "data": {"kind": images["kind"], "split": images.get("split"), "samples": entry["accuracy"]["n"]},
        "backend": entry["backend"],
        "providers": summary["settings"]["bench"]["providers"],
        "device": {key: environment[key] for key in _DEVICE},
        "python": environment["python"],
        "packages": environment["packages"],
        "commit": environment["commit"],
    }


def _runtime(
    summary: Mapping[str, Any], choice: Choice, engine: Mapping[str, Any] | None
) -> dict[str, str | None]:
    """What executes the file."""
    if engine is not None:
        return {"name": engine["library"], "version": engine["version"], "device": engine["device"]}
    if choice.target.startswith("tensorrt"):
        return {"name": "tensorrt", "version": None, "device": None}  # it is not built yet
    version = summary["environment"]["packages"].get("onnxruntime")
    return {"name": "onnxruntime", "version": version, "device": None}


def _latencies(summary: Mapping[str, Any], choice: Choice) -> list[dict[str, Any]] | None:
    """Each without its single calls, and with the reference's time beside it."""
    if choice.entry["latency"] is None:
        return None
    reference = {_at(one): one["median_ms"] for one in choice.reference["latency"] or ()}
    noise = {_at(one): one["ratio"] for one in summary["noise"]}
    return [
        {key: one[key] for key in _LATENCY}
        | {"reference_median_ms": reference.get(_at(one)), "reference_against_itself": noise.get(_at(one))}
        for one in choice.entry["latency"]
    ]


def _at(measured: Mapping[str, Any]) -> tuple[int, int]:
    return measured["batch"], measured["threads"]


def _tensor(value: onnx.ValueInfoProto) -> dict[str, Any]:
    kind = value.type.tensor_type
    shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    return {
        "name": value.name,
        "dtype": tensor_dtype_to_np_dtype(kind.elem_type).name,
        "shape": shape,
    }
