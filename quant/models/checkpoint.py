"""Reading trained weights from a file and putting them into a model; nothing is ever unpickled."""

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from quant.errors import BadInput

__all__ = ["apply_weights", "read_weights"]

_TORCH_SUFFIXES = (".pt", ".pth", ".bin")
_NESTS = ("state_dict", "model", "model_state_dict")
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")  # DataParallel, torch.compile
_SHOWN = 3


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a checkpoint's tensors by name, floating ones as float32.

    A nested `state_dict` or `model` is taken out, and the prefix that a wrapped model puts before every name
    is removed.

    Raises:
        BadInput: If the file is missing, damaged, of an unknown suffix, or holds anything but tensors.
    """
    if not path.is_file():
        raise BadInput(f"{path}: the weights file does not exist")
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        values = _read_safetensors(path)
    elif suffix in _TORCH_SUFFIXES:
        values = _read_torch(path)
    else:
        allowed = ", ".join((".safetensors", *_TORCH_SUFFIXES))
        raise BadInput(f"{path}: the suffix {suffix!r} is not one of a weights file; allowed: {allowed}")
    while nested := [values[nest] for nest in _NESTS if isinstance(values.get(nest), Mapping)]:
        values = nested[0]
    others = [str(name) for name, value in values.items() if not isinstance(value, torch.Tensor)]
    if others or not values:
        found = f"{_some(others)} is not a tensor" if others else "there is no tensor"
        raise BadInput(f"{path}: is no checkpoint of named tensors: {found}; save model.state_dict()")
    for prefix in _WRAPPER_PREFIXES:
        if all(name.startswith(prefix) for name in values):
            values = {name.removeprefix(prefix): value for name, value in values.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in values.items()}


def apply_weights(model: nn.Module, weights: Mapping[str, torch.Tensor], origin: str) -> None:
    """Copy weights into a model whose names and shapes must match them exactly.

    Batch normalisation's `num_batches_tracked` is left alone: only training reads it, and older checkpoints
    lack it.

    Args:
        model: Takes the weights.
        weights: Tensors by the names of `model.state_dict()`.
        origin: What to call the checkpoint in an error.

    Raises:
        BadInput: Naming the first few tensors that only one side has, or whose shapes differ.
    """
    wanted = {name: value for name, value in model.state_dict().items() if not _is_counter(name)}
    given = {name: value for name, value in weights.items() if not _is_counter(name)}
    missing = [name for name in wanted if name not in given]
    extra = [name for name in given if name not in wanted]
    reshaped = [
        f"{name} (checkpoint {list(given[name].shape)}, model {list(wanted[name].shape)})"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    problems = [
        f"{text}: {_some(names)}"
        for text, names in (
            ("the model needs, but the checkpoint lacks", missing),
            ("the checkpoint has, but the model does not", extra),
            ("different shapes", reshaped),
        )
        if names
    ]
    if problems:
        raise BadInput(
            f"{origin}: does not fit the model; {'; '.join(problems)}; check the model's name and kwargs"
        )
    model.load_state_dict(given, strict=False)


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise BadInput(
            f"{path}: is not a whole safetensors file ({error}); fetch or save it again"
        ) from error


def _read_torch(path: Path) -> Mapping[str, Any]:
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # A whole archive, or a refused class: the file is what it claims to be, but holds more than tensors.
        if "GLOBAL" not in str(error) and not zipfile.is_zipfile(path):
            raise BadInput(f"{path}: is not a PyTorch checkpoint, or is damaged") from error
        raise BadInput(
            f"{path}: holds pickled objects, which could run code when read, so it is refused; "
            "save model.state_dict() or a .safetensors file"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path}: is not a PyTorch checkpoint, or is damaged ({error})") from error
    if not isinstance(values, Mapping):
        raise BadInput(
            f"{path}: holds {type(values).__name__} instead of named tensors; save model.state_dict()"
        )
    return values


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] == "num_batches_tracked"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
