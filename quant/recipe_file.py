"""The files that recipes are written in: one recipe, one that changes another, or a grid of many.

A file may build on another recipe::

    base: w6a6                  # a shipped recipe, or a YAML file relative to this one
    name: w6a6_tensor
    specs: {weight: {granularity: per_tensor}}
    methods+: [{name: bias_correction}]

Mappings are merged, everything else replaces what the base says; ``null`` takes a key away, a key with ``+``
behind it adds to the base's list. A file with ``axes`` is a grid, one recipe for each cell::

    base: w6a6
    name: "{granularity}_w{bits}"
    axes:
      granularity: {tensor: {specs: {weight: {granularity: per_tensor}}}, channel: {}}
      bits: {8: {specs: {weight: {bits: 8}}}, 4: {specs: {weight: {bits: 4}}}}
    exclude_cells: [{granularity: tensor, bits: 4}]

Each axis has labels, and what each of them changes; axes are applied in order, the last one varies fastest.
``name`` and ``description`` take the labels in braces.
"""

import itertools
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from quant.errors import BadInput
from quant.words import near

__all__ = ["grid_cells", "merged", "read_recipes", "shipped_recipes"]

_AXES, _BASE, _EXCLUDED = "axes", "base", "exclude_cells"
_LABELLED = ("name", "description")


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the product, by name."""
    folder = Path(str(files("quant") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_recipes(name_or_path: str | Path) -> list[dict[str, Any]]:
    """The recipes of a file as plain values, what they build on merged in.

    Raises:
        BadInput: no such recipe, not YAML, a base that leads back to itself, or axes that are none.
    """
    path = _path_of(str(name_or_path), Path())
    document = _with_base(path, ())
    return grid_cells(document, f"recipe {path}") if _AXES in document else [document]


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with changes: mappings are merged, ``null`` takes away, ``key+`` adds to a list.

    Raises:
        BadInput: ``key+`` where one of the two is not a list.
    """
    result = dict(base)
    for key, value in changes.items():
        name = key.removesuffix("+") if isinstance(key, str) else key
        old = result.get(name)
        if name != key:
            if not isinstance(value, list) or not isinstance(old, list | None):
                raise BadInput(f"'{key}' adds to a list, but {value!r} or '{name}' of the base is none")
            result[name] = [*(old or ()), *value]
        elif value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            result[name] = merged(old if isinstance(old, Mapping) else {}, value)
        else:
            result[name] = value
    return result


def grid_cells(document: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    """One document for each cell of a grid.

    Args:
        document: with ``axes``.
        what: what to call it in messages.

    Raises:
        BadInput: an axis has no labels, or an excluded cell or a name speaks of what there is not.
    """
    axes = document[_AXES]
    if not isinstance(axes, Mapping) or not all(isinstance(a, Mapping) and a for a in axes.values()):
        raise BadInput(f"{what}: axes must be a mapping of axis to labels, each with what it changes")
    excluded = [_cell(entry, axes, what) for entry in document.get(_EXCLUDED) or ()]
    common = {key: value for key, value in document.items() if key not in (_AXES, _EXCLUDED)}
    found = []
    for labels in itertools.product(*axes.values()):
        cell = {str(axis): str(label) for axis, label in zip(axes, labels, strict=True)}
        if any(entry.items() <= cell.items() for entry in excluded):
            continue
        result = common
        for axis, label in zip(axes.values(), labels, strict=True):
            result = merged(result, axis[label] or {})
        texts = {key: _filled(str(result[key]), cell, what) for key in _LABELLED if key in result}
        found.append({**result, **texts})
    if not found:
        raise BadInput(f"{what}: every cell of the grid is excluded")
    return found


def _with_base(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    document = _read(path)
    base = document.pop(_BASE, None)
    if base is None:
        return document
    seen = (*seen, path.resolve())
    below = _path_of(str(base), path.parent)
    if below.resolve() in seen:
        raise BadInput(f"recipe {path}: its base '{base}' is built on the recipe itself")
    grid = {key: document.pop(key) for key in (_AXES, _EXCLUDED) if key in document}  # a label may be null
    return merged(_with_base(below, seen), document) | grid


def _path_of(name: str, folder: Path) -> Path:
    shipped = shipped_recipes()
    path = shipped.get(name) or folder / name
    if not path.is_file():
        raise BadInput(
            f"no recipe '{name}'{near(Path(name).name, shipped)}; shipped: {', '.join(shipped)}, "
            "or give the path of a YAML file"
        )
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"recipe {path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise BadInput(f"recipe {path} must be a mapping with the keys name, specs, roles and others")
    return data


def _cell(entry: Any, axes: Mapping[Any, Mapping[Any, Any]], what: str) -> dict[str, str]:
    known = {str(axis): [str(label) for label in labels] for axis, labels in axes.items()}
    cell = {str(k): str(v) for k, v in entry.items()} if isinstance(entry, Mapping) else {}
    if not cell or any(label not in known.get(axis, ()) for axis, label in cell.items()):
        raise BadInput(f"{what}: {_EXCLUDED} has {entry!r}; axes and labels are {known}")
    return cell


def _filled(text: str, labels: Mapping[str, str], what: str) -> str:
    try:
        return text.format(**labels)
    except (KeyError, ValueError, IndexError) as error:
        raise BadInput(f"{what}: '{text}' may name the axes {', '.join(labels)} in braces") from error
