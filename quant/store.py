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
from torch import Tensor, fx

from quant.calibrate import prepare
from quant.calibrated import CalibratedGraph, Knowledge
from quant.errors import BadInput
from quant.files import replace_bytes
from quant.methods import ChannelRange, MethodNote
from quant.observers import Observer
from quant.placement import Site
from quant.qparams import QParams
from quant.recipe import Recipe, parse
from quant.tuning.parameters import Changes, TunedParameters, observe_weight

__all__ = ["load_calibration", "save_calibration"]

_KEY = "octavo.calibration"
_LAYOUT = 2


def save_calibration(calibrated: CalibratedGraph, path: Path, fingerprint: str) -> None:
    """Write what the images taught.

    Tensors are called

    - ``range/<pass>/<node>/low`` and ``high``, ``finding/<name>``: what graph methods learned;
    - ``site/<site>/observer/<key>`` and ``channels/<key>``: :meth:`quant.observers.Observer.state`;
    - ``parameter/<name>``, ``grid/<site>/scale`` and ``zero_point``, ``bounds/<site>/low`` and ``high``: what
      tuning changed.

    Args:
        calibrated: a calibrated graph, frozen or not.
        path: the file; it is replaced as a whole or not at all.
        fingerprint: identifies the float model, for :func:`load_calibration` to compare.

    Raises:
        OSError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for node, bounds in calibrated.knowledge.ranges.items():
        tensors |= {f"range/{node}/low": bounds.low, f"range/{node}/high": bounds.high}
    tensors |= {f"finding/{name}": found for name, found in calibrated.knowledge.findings.items()}
    for site in calibrated.activation_sites():
        for part, observer in _observers(site):
            tensors |= {f"site/{site.name}/{part}/{key}": t for key, t in observer.state().items()}
    changes = calibrated.changes
    tensors |= {f"parameter/{name}": value for name, value in changes.parameters.items()}
    for name, grid in changes.grids.items():
        tensors |= {f"grid/{name}/scale": grid.scale, f"grid/{name}/zero_point": grid.zero_point}
    for name, (low, high) in changes.ranges.items():
        tensors |= {f"bounds/{name}/low": low, f"bounds/{name}/high": high}
    about = {
        "layout": _LAYOUT,
        "fingerprint": fingerprint,
        "recipe": calibrated.recipe.model_dump(mode="json"),
        "images": calibrated.images,
        "sites": [site.name for site in calibrated.sites],
        "notes": [asdict(note) for note in calibrated.notes],
        "grids": {name: _format(grid) for name, grid in changes.grids.items()},
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
    findings = {
        name.removeprefix("finding/"): t for name, t in tensors.items() if name.startswith("finding/")
    }
    calibrated = prepare(copy.deepcopy(graph), recipe, Knowledge(ranges, findings))
    if [site.name for site in calibrated.sites] != about["sites"]:
        raise BadInput(
            f"{path}: the layers of the model are not those it was calibrated with; quantize again"
        )
    states = _grouped(tensors, "site/")
    for site in calibrated.activation_sites():
        for part, observer in _observers(site):
            observer.load_state(states.get(f"{site.name}/{part}", {}))
    changes = _changes(about, tensors)
    sites = {site.name: site for site in calibrated.sites}
    TunedParameters(calibrated.graph, changes).replay(sites, changes)
    for site in calibrated.weight_sites():
        observe_weight(calibrated.graph, site)
    notes = [MethodNote(**note) for note in about["notes"]]
    return replace(calibrated, images=int(about["images"]), changes=changes, notes=notes)


def _format(grid: QParams) -> dict[str, Any]:
    """Everything of a grid but its tensors."""
    keys = ("qmin", "qmax", "axis", "group_size", "scheme")
    return {key: getattr(grid, key) for key in keys}


def _changes(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Changes:
    grids = {
        site: QParams(state["scale"], state["zero_point"], **about["grids"][site])
        for site, state in _grouped(tensors, "grid/").items()
    }
    ranges = {site: (s["low"], s["high"]) for site, s in _grouped(tensors, "bounds/").items()}
    prefix = "parameter/"
    parameters = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    return Changes(parameters, grids, ranges)


def _observers(site: Site) -> Iterator[tuple[str, Observer]]:
    yield "observer", site.quantizer.observer
    if site.quantizer.channels is not None:
        yield "channels", site.quantizer.channels


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
