"""The files of a bundle, and the one way in which they are put into a zip."""

import hashlib
import io
import zipfile
from collections.abc import Mapping

__all__ = [
    "ENGINE",
    "FILES",
    "FORMAT",
    "LABELS",
    "LICENSE",
    "MANIFEST",
    "MODEL",
    "MOST_BYTES",
    "ORT_TARGETS",
    "PLAN",
    "SBOM",
    "SUMS",
    "VERSION",
    "sums",
    "zip_bytes",
]

FORMAT = "octavo-bundle"
VERSION = 1
"""Of the layout; a loader refuses others."""

MANIFEST, SUMS, SBOM = "manifest.json", "SHA256SUMS", "sbom.cdx.json"
MODEL, PLAN, ENGINE = "model.onnx", "engine.plan", "engine.json"
LABELS, LICENSE = "labels.txt", "LICENSE"

FILES = (MANIFEST, SUMS, SBOM, MODEL, PLAN, ENGINE, LABELS, LICENSE)
"""Every name that a bundle of this version can have."""

MOST_BYTES = 2 * 2**30
"""Of all files together; no ONNX file is larger, as protobuf allows no more."""

ORT_TARGETS = {"x86_64": "ort-x86", "amd64": "ort-x86", "aarch64": "ort-arm64", "arm64": "ort-arm64"}
"""What a machine calls its processor, in lower case, to the target that ONNX Runtime is on it."""

_OLDEST = (1980, 1, 1, 0, 0, 0)  # that a zip can say
_UNIX, _MODE = 3, 0o100644  # a plain file


def sums(files: Mapping[str, bytes]) -> bytes:
    """The text of ``SHA256SUMS`` for the other files, sorted by name."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files) if name != SUMS)
    return "".join(lines).encode()


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """The zip of a bundle: sorted, stored, with no time, owner or comment of its own.

    It is not compressed, as releases of zlib differ in what they make of the same bytes.
    """
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _OLDEST)
            entry.create_system, entry.external_attr = _UNIX, _MODE << 16
            archive.writestr(entry, files[name])
    return whole.getvalue()
