"""What ``manifest.json`` says, as far as loading depends on it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deploy.bundle.layout import FORMAT, MANIFEST, VERSION
from deploy.bundle.preprocess import ArrayInput, ImageInput, input_of
from quant.errors import BadInput

__all__ = ["TASKS", "Manifest", "Tensor", "parse_manifest", "to_json"]

TASKS = {"classification": "softmax", "multilabel": "sigmoid"}
"""What a model's outputs mean, and what makes scores of them."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of the model.

    Attributes:
        name: of it.
        dtype: NumPy's name of its type.
        shape: with None where a size is open.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Manifest:
    """A manifest.

    Attributes:
        model: name of the model, as in the run's configuration.
        variant: ``fp32``, ``fp16`` or the recipe.
        target: what it was lowered for.
        task: a key of :data:`TASKS`.
        model_input: its only input.
        model_output: its only output, [N, K].
        preprocessing: from a sample to the input.
        guard: how its integer products are kept from saturating, see
            :attr:`export.targets.Target.saturates`; None of a float model.
        providers: ONNX Runtime's, that it was measured with.
        files: SHA-256 and size of each file but the manifest and its digests.
        told: all that it says.
    """

    model: str
    variant: str
    target: str
    task: str
    model_input: Tensor
    model_output: Tensor
    preprocessing: ImageInput | ArrayInput
    guard: str | None
    providers: tuple[str, ...]
    files: Mapping[str, tuple[str, int]]
    told: Mapping[str, Any]


def to_json(told: Mapping[str, Any]) -> bytes:
    """The text of a manifest; the same values give the same bytes."""
    return (json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def parse_manifest(text: bytes, where: str) -> Manifest:
    """Read a manifest.

    Args:
        text: of the file.
        where: what messages call the bundle.

    Raises:
        BadInput: it is not one, or of another version of the layout.
    """
    try:
        told = json.loads(text)
        kind, version = told["format"], told["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{where}: its {MANIFEST} is not that of a bundle; make it again") from error
    if kind != FORMAT:
        raise BadInput(f"{where}: its {MANIFEST} has the format {kind!r}; allowed: {FORMAT}")
    if type(version) is not int or version != VERSION:
        raise BadInput(
            f"{where}: is a bundle of version {version!r}, this Octavo reads version {VERSION}; use the "
            "Octavo that made it, or make it again with `octavo package`"
        )
    try:
        return _parsed(told)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        what = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
        raise BadInput(f"{where}: its {MANIFEST} cannot be used ({what}); make it again") from error


def _parsed(told: Mapping[str, Any]) -> Manifest:
    (one_input,), (one_output,) = told["inputs"], told["outputs"]
    if told["task"] not in TASKS:
        raise ValueError(f"task is {told['task']!r}; known: {', '.join(TASKS)}")
    names = {key: told[key] for key in ("variant", "target", "task")} | {"model": told["model"]["name"]}
    guard, providers = told["saturation_guard"], tuple(told["measured"]["providers"])
    for key, name in (
        *names.items(),
        ("saturation_guard", guard or ""),
        *(("providers", provider) for provider in providers),
    ):
        if not isinstance(name, str):
            raise TypeError(f"{key} is {name!r}")
    model_input, model_output = _tensor(one_input), _tensor(one_output)
    preprocessing = input_of(told["preprocessing"])
    if model_input.shape[1:] != preprocessing.input_size or len(model_output.shape) != 2:
        raise ValueError(f"{one_input} and {one_output} do not fit the preprocessing, or are no batches")
    return Manifest(
        **names,
        model_input=model_input,
        model_output=model_output,
        preprocessing=preprocessing,
        guard=guard,
        providers=providers,
        files={name: (str(of["sha256"]), int(of["bytes"])) for name, of in told["files"].items()},
        told=told,
    )


def _tensor(told: Mapping[str, Any]) -> Tensor:
    shape, dtype = tuple(told["shape"]), told["dtype"]
    if not all(size is None or (type(size) is int and size > 0) for size in shape):
        raise ValueError(f"shape is {told['shape']!r}")
    if not isinstance(dtype, str):
        raise TypeError(f"dtype is {dtype!r}")
    return Tensor(str(told["name"]), np.dtype(dtype).name, shape)
