"""Keep a calibration in a file: everything that was learned from the images, in one safetensors file.

What is stored is what the observers saw, not scales: a loaded calibration can still be frozen in any target's
formats. Weights are not stored, they are observed again from the model.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, fx

from quant.calibrate import CalibratedGraph, prepare
from quant.errors import BadInput
from quant.files import replace_bytes
from quant.graph.nodes import constant_name, tensor_of
from quant.methods import ChannelRange
from quant.observers import Observer
from quant.placement import Site
from quant.recipe import Recipe, parse

__all__ = ["load_calibration", "save_calibration"]

_KEY = "octavo.calibration"
_LAYOUT = 1


def save_calibration(calibrated: CalibratedGraph, path: Path, fingerprint: str) -> None:
    """Write what the images taught.

    Tensors are called ``range/<node>/low`` and ``high`` (the methods' statistics) and
    ``site/<site>/observer/<key>`` and ``channels/<key>`` (:meth:`quant.observers.Observer.state`).

    Args:
        calibrated: a calibrated graph, frozen or not.
        path: the file; it is replaced as a whole or not at all.
        fingerprint: identifies the float model, for :func:`load_calibration` to compare.

    Raises:
        OSError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for node, bounds in calibrated.ranges.items():
        tensors |= {f"range/{node}/low": bounds.low, f"range/{node}/high": bounds.high}
    for site in calibrated.activation_sites():
        for part, observer in _observers(site):
            tensors |= {f"site/{site.name}/{part}/{key}": t for key, t in observer.state().items()}
    about = {
        "layout": _LAYOUT,
        "fingerprint": fingerprint,
        "recipe": calibrated.recipe.model_dump(mode="json"),
        "images": calibrated.images,
        "sites": [site.name for site in calibrated.sites],
        "notes": [asdict(note) for note in calibrated.notes],
    }
    stored = {key: tensor.cpu().contiguous().clone() for key, tensor in tensors.items()}
    replace_bytes(path, safetensors.torch.save(stored, {_KEY: json.dumps(about)}))


def load_calibration(path: Path, graph: fx.GraphModule, fingerprint: str) -> CalibratedGraph:
    """Bring a calibration back; freezing it gives the very same scales.

    Args:
        path: what :func:`save_calibration` wrote.
        graph: the model's captured float graph; it is not changed.
        fingerprint: of that model.

    Raises:
        BadInput: the file is missing, damaged, of another kind, or of another model.
    """
    about, tensors = _read(path)
    if about["fingerprint"] != fingerprint:
        raise BadInput(f"{path}: was calibrated on another model; quantize again")
    recipe = parse(Recipe, about["recipe"], f"the recipe in {path}")
    ranges = {
        node: ChannelRange(state["low"], state["high"]) for node, state in _grouped(tensors, "range/").items()
    }
    calibrated = prepare(copy.deepcopy(graph), recipe, ranges)
    if [site.name for site in calibrated.sites] != about["sites"]:
        raise BadInput(
            f"{path}: the layers of the model are not those it was calibrated with; quantize again"
        )
    states = _grouped(tensors, "site/")
    for site in calibrated.activation_sites():
        for part, observer in _observers(site):
            observer.load_state(states.get(f"{site.name}/{part}", {}))
    _observe_weights(calibrated)
    return replace(calibrated, images=int(about["images"]))


def _observers(site: Site) -> Iterator[tuple[str, Observer]]:
    yield "observer", site.quantizer.observer
    if site.quantizer.channels is not None:
        yield "channels", site.quantizer.channels


@torch.no_grad()
def _observe_weights(calibrated: CalibratedGraph) -> None:
    for site in calibrated.weight_sites():
        name = constant_name(site.node.args[0])
        assert name is not None
        site.quantizer.observe()
        site.quantizer(tensor_of(calibrated.graph, name))
        site.quantizer.off()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[_KEY])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise BadInput(f"{path}: does not exist; run `octavo quantize` first") from error
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path}: is not a whole calibration file ({error}); quantize again") from error
    if about.get("layout") != _LAYOUT:
        raise BadInput(f"{path}: was written by another version of Octavo; quantize again")
    return about, tensors


def _grouped(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, dict[str, Tensor]]:
    """Tensors below ``prefix`` by what stands before the last slash, then by what stands behind it."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith(prefix):
            group, _, leaf = key.removeprefix(prefix).rpartition("/")
            groups.setdefault(group, {})[leaf] = tensor
    return groups
