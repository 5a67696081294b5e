"""From a run to a bundle: choose, collect, describe, write."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from deploy.bundle.describe import ModelFacts, facts_of, manifest_of
from deploy.bundle.labels import labels_from_file, labels_of_run
from deploy.bundle.layout import ENGINE, LABELS, LICENSE, MANIFEST, MODEL, PLAN, SBOM, SUMS, sums
from deploy.bundle.license import License, license_of, published_license
from deploy.bundle.manifest import to_json
from deploy.bundle.select import Choice, choose_variant
from deploy.bundle.write import check_place, write_bundle
from deploy.pipeline.line import Line
from deploy.sbom import Artefact, Package, sbom
from deploy.tensorrt.manifest import read_manifest
from quant.errors import BadInput

__all__ = ["PackageSettings", "Packaged", "package_run"]

_FOLDER = "bundles"


@dataclass(frozen=True)
class PackageSettings:
    """What a bundle is made of.

    Attributes:
        variant: see :func:`deploy.bundle.select.choose_variant`.
        target: see there.
        license: of the weights, see :func:`deploy.bundle.license.license_of`; where left out, what timm says
            of weights that it downloaded.
        labels: a file of names, in the place of those that the run's images bring.
        engine: the TensorRT engine that `octavo build` left, in the place of the ONNX file.
    """

    variant: str
    target: str | None = None
    license: str | None = None
    labels: Path | None = None
    engine: bool = False


@dataclass(frozen=True)
class Packaged:
    """A bundle that was written.

    Attributes:
        path: of it.
        size_bytes: of its files.
        remarks: what its user should know, in sentences.
    """

    path: Path
    size_bytes: int
    remarks: tuple[str, ...]


def package_run(
    line: Line, summary: Mapping[str, Any], settings: PackageSettings, out: Path | None = None
) -> Packaged:
    """Write a variant of a run as a bundle.

    Args:
        line: the run.
        summary: its summary, as JSON values.
        settings: what is packaged.
        out: a zip where its name ends so, else a folder; ``RUN/bundles/VARIANT-TARGET.zip`` where left out.

    Raises:
        BadInput: the variant is not there or not signed off, another argument is wrong, or something that is
            no bundle lies at ``out``.
        Unsupported: the model has several inputs or outputs.
    """
    root, given = line.workspace.root, settings.license
    weights_license = published_license(line.config.model) if given is None else license_of(given)
    recipes = [recipe.name for recipe in line.recipes]
    choice = choose_variant(root, summary, settings.variant, settings.target, recipes)
    out = out or root / _FOLDER / f"{choice.variant}-{choice.target}.zip"
    check_place(out)
    files = _collect(line, summary, choice, settings, weights_license)
    write_bundle(files, out)
    return Packaged(out, sum(map(len, files.values())), _remarks(choice, weights_license, files))


def _collect(
    line: Line,
    summary: Mapping[str, Any],
    choice: Choice,
    settings: PackageSettings,
    weights_license: License,
) -> dict[str, bytes]:
    path = line.workspace.path(choice.entry["file"])
    model = path.read_bytes()
    facts = facts_of(_parsed(model, path), str(path))
    files = _engine(path, choice) if settings.engine else {MODEL: model}
    if settings.labels is not None:
        labels: list[str] | None = labels_from_file(settings.labels, facts.width)
    else:
        labels = labels_of_run(line, facts.width)
    if labels is not None:
        files[LABELS] = ("\n".join(labels) + "\n").encode()
    if weights_license.text is not None:
        files[LICENSE] = weights_license.text
    engine = json.loads(files[ENGINE]) if settings.engine else None
    files[SBOM] = _bill(line, choice, facts, weights_license, files, engine).encode()
    listed = {name: {"sha256": _sha256(content), "bytes": len(content)} for name, content in files.items()}
    guard = _guard(path)
    files[MANIFEST] = to_json(manifest_of(summary, choice, facts, guard, engine, weights_license, listed))
    files[SUMS] = sums(files)
    return files


def _parsed(model: bytes, path: Path) -> onnx.ModelProto:
    try:
        return onnx.load_from_string(model)
    except DecodeError as error:
        raise BadInput(f"{path}: is not an ONNX model; run `octavo lower` again") from error


def _engine(model: Path, choice: Choice) -> dict[str, bytes]:
    """The engine beside a model, checked to be built of it."""
    plan = model.with_name(PLAN)
    read_manifest(plan)
    files = {PLAN: plan.read_bytes(), ENGINE: plan.with_name(ENGINE).read_bytes()}
    if json.loads(files[ENGINE]).get("model") != choice.entry["sha256"]:
        raise BadInput(f"{plan}: was built of another model; run `octavo build` again")
    return files


def _guard(model: Path) -> str | None:
    """How integer products are kept from saturating, as lowering left it; None of float models."""
    try:
        told = json.loads(model.with_name("lowering.json").read_bytes())
    except FileNotFoundError:  # the float model in plain operators
        return None
    guard: str | None = told.get("guard")
    return guard


def _bill(
    line: Line,
    choice: Choice,
    facts: ModelFacts,
    weights_license: License,
    files: Mapping[str, bytes],
    engine: Mapping[str, Any] | None,
) -> str:
    """The software is that which made the file; what is installed now has no say, as in all of the bundle."""
    software = tuple(Package(name, version) for name, version in sorted(facts.versions.items()))
    origin: tuple[Artefact | Package, ...] = software
    if facts.weights_sha256 is not None and line.config.model.weights is not None:
        name = Path(line.config.model.weights).name
        weights = Artefact(name, facts.weights_sha256, "machine-learning-model", weights_license.in_bill)
        origin = (weights, *software)
    model = Artefact(MODEL, choice.entry["sha256"], "machine-learning-model", weights_license.in_bill, origin)
    items = [model]
    if engine is not None:
        runtime = Package(engine["library"], engine["version"])
        plan = _sha256(files[PLAN])
        items = [Artefact(PLAN, plan, "machine-learning-model", weights_license.in_bill, (model, runtime))]
    items += [Artefact(name, _sha256(files[name]), "data") for name in (LABELS,) if name in files]
    return sbom(f"{line.config.model.name} {choice.variant} {choice.target}", items)


def _remarks(choice: Choice, weights_license: License, files: Mapping[str, bytes]) -> tuple[str, ...]:
    found = [f"parity out of limits, which the run's settings let pass: {doubt}" for doubt in choice.doubts]
    if choice.entry["note"]:
        found.append(choice.entry["note"])
    if weights_license == License():
        found.append("the licence of the weights is not known; say it with --license")
    if LABELS not in files:
        found.append("outputs have numbers only; name them with --labels")
    return tuple(found)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
