"""Load a bundle: refuse it, or know that it is whole and for this target."""

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path

from deploy.bundle.bundle import Bundle
from deploy.bundle.contents import read_contents
from deploy.bundle.layout import FILES, LABELS, MANIFEST, MODEL, MOST_BYTES, ORT_TARGETS, PLAN, SUMS, sums
from deploy.bundle.manifest import Manifest, parse_manifest
from quant.errors import BadInput

__all__ = ["HERE", "check_target", "load_bundle"]

HERE = "here"


def load_bundle(path: Path | str, target: str | None = HERE, *, limit_bytes: int = MOST_BYTES) -> Bundle:
    """Read a bundle and check every byte of it.

    Args:
        path: a zip or a folder that `octavo package` wrote.
        target: what it must have been made for, such as ``ort-arm64``; :data:`HERE` is ONNX Runtime on this
            machine's processor, None takes any.
        limit_bytes: what its files may take together.

    Raises:
        BadInput: it is for another target, was changed, lacks a file or has one too many, is larger, or is
            of another version; see also :func:`deploy.bundle.contents.read_contents`.
    """
    path = Path(path)
    files = read_contents(path, limit_bytes)
    manifest = parse_manifest(files[MANIFEST], str(path))
    _check_files(path, manifest, files)
    check_target(path, manifest, target)
    labels = _labels(path, manifest, files.get(LABELS, b""))
    return Bundle(str(path), manifest, files, labels, hashlib.sha256(files[SUMS]).hexdigest())


def _check_files(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    again = "copy the bundle again, or make it again with `octavo package`"
    expected = {*manifest.files, MANIFEST, SUMS}
    if missing := expected - files.keys():
        raise BadInput(f"{path}: lacks {', '.join(sorted(missing))}; {again}")
    if extra := files.keys() - expected:
        raise BadInput(f"{path}: has {', '.join(sorted(extra))}, which its {MANIFEST} does not list; {again}")
    if unknown := expected.difference(FILES):
        raise BadInput(f"{path}: lists {', '.join(sorted(unknown))}; a bundle can have {', '.join(FILES)}")
    if (MODEL in files) == (PLAN in files):
        raise BadInput(f"{path}: must have either {MODEL} or {PLAN}; {again}")
    for name, (sha256, size) in manifest.files.items():
        if len(files[name]) != size:
            raise BadInput(f"{path}: {name} has {len(files[name])} bytes instead of {size}; {again}")
        if hashlib.sha256(files[name]).hexdigest() != sha256:
            raise BadInput(f"{path}: {name} was changed (its SHA-256 is not that of the manifest); {again}")
    if files[SUMS] != sums(files):
        raise BadInput(f"{path}: {MANIFEST} or {SUMS} was changed, as they do not go together; {again}")


def _labels(path: Path, manifest: Manifest, text: bytes) -> tuple[str, ...]:
    labels = text.decode(errors="replace").removesuffix("\n").split("\n") if text else ()
    outputs = manifest.model_output.shape[-1]
    if labels and outputs is not None and len(labels) != outputs:
        raise BadInput(f"{path}: has {len(labels)} labels for {outputs} outputs; make the bundle again")
    return tuple(labels)


def check_target(path: Path | str, manifest: Manifest, target: str | None) -> None:
    """Refuse a bundle for something else; ``target`` as :func:`load_bundle` takes it.

    Raises:
        BadInput: it was made for another target.
    """
    wanted = target
    if target == HERE:
        machine = platform.machine()
        wanted = ORT_TARGETS.get(machine.lower(), f"processors of {machine}")
    if wanted is not None and manifest.target != wanted:
        raise BadInput(
            f"{path}: was made for target {manifest.target}, not for {wanted}; make one with `octavo package "
            f"RUN --variant {manifest.variant} --target {wanted}`, or name target '{manifest.target}' when "
            "loading, if that is what you want"
        )
