"""A bill of materials: what files are made of and which software made them (CycloneDX 1.6, as JSON).

The same values give the same bytes: the serial number is derived from the content, and there is no time in it
unless ``SOURCE_DATE_EPOCH`` says which (reproducible-builds.org).
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from quant.errors import BadInput

__all__ = ["SCHEMA", "Artefact", "Package", "installed", "sbom", "source_date"]

SCHEMA = SchemaVersion.V1_6
"""Version of the schema that is written."""

_EPOCH = "SOURCE_DATE_EPOCH"
_NAMESPACE = uuid5(NAMESPACE_URL, "urn:octavo:sbom")
_LONGEST_LICENCE = 200  # some packages have the whole text in that field


@dataclass(frozen=True)
class Package:
    """A piece of software.

    Attributes:
        name: of the distribution.
        version: exact; None where it is not known.
        licence: an SPDX expression, or a name; None where it is not known.
        registry: the type of its package URL, such as ``pypi``; ``generic`` where no registry has it.
    """

    name: str
    version: str | None
    licence: str | None = None
    registry: str = "pypi"


@dataclass(frozen=True)
class Artefact:
    """A file.

    Attributes:
        path: its name, relative to what the bill is about.
        sha256: of its bytes, in hexadecimal.
        kind: a type of CycloneDX.
        licence: an SPDX expression, or a name; None where it is not known.
        depends_on: what it was made from, and what it needs.
    """

    path: str
    sha256: str
    kind: Literal["machine-learning-model", "data", "file"]
    licence: str | None = None
    depends_on: "tuple[Artefact | Package, ...]" = ()


@cache
def installed(name: str) -> Package:
    """A Python distribution as it is installed; without a version where it runs from its source folder."""
    try:
        about = metadata(name)
    except PackageNotFoundError:
        return Package(name, None)
    told = [about[key] for key in ("License-Expression", "License") if key in about]
    short = [licence for licence in told if "\n" not in licence and 0 < len(licence) <= _LONGEST_LICENCE]
    return Package(about["Name"], about["Version"], short[0] if short else None)


def source_date() -> datetime | None:
    """The time that ``SOURCE_DATE_EPOCH`` names, in seconds since 1970; None where it is not set.

    Raises:
        BadInput: it is no such number.
    """
    given = os.environ.get(_EPOCH)
    if not given:
        return None
    try:
        return datetime.fromtimestamp(int(given), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise BadInput(f"{_EPOCH} is a whole number of seconds since 1970, got '{given}'") from error


def sbom(about: str, items: Iterable[Artefact | Package], created: datetime | None = None) -> str:
    """The bill as JSON, with everything that the items depend on, directly or not.

    Args:
        about: a name for the whole.
        items: what is delivered, and what made it.
        created: the time to write; none where left out.
    """
    known: dict[Artefact | Package, Component] = {}
    for item in items:
        _collect(item, known)
    whole = Component(name=about, type=ComponentType.DATA, bom_ref=about)
    bom = Bom(components=known.values(), serial_number=UUID(int=0))
    bom.metadata.component = whole
    if created is not None:
        bom.metadata.timestamp = created
    needed = {part for item in known for part in _parts(item)}
    bom.register_dependency(whole, [known[item] for item in known if item not in needed])
    for item, component in known.items():
        bom.register_dependency(component, [known[part] for part in _parts(item)])
    content = json.loads(make_outputter(bom, OutputFormat.JSON, SCHEMA).output_as_string())
    return _finished(content, created is not None)


def _finished(content: dict[str, Any], timed: bool) -> str:
    """Without the library's own time and serial number, which differ from call to call."""
    if not timed:
        del content["metadata"]["timestamp"]
    del content["serialNumber"]
    serial = uuid5(_NAMESPACE, json.dumps(content, sort_keys=True))
    return json.dumps(content | {"serialNumber": serial.urn}, indent=1, sort_keys=True) + "\n"


def _collect(item: Artefact | Package, known: dict[Artefact | Package, Component]) -> None:
    if item not in known:
        known[item] = _component(item)
        for part in _parts(item):
            _collect(part, known)


def _parts(item: Artefact | Package) -> Sequence[Artefact | Package]:
    return item.depends_on if isinstance(item, Artefact) else ()


def _component(item: Artefact | Package) -> Component:
    licences = [LicenseFactory().make_from_string(item.licence)] if item.licence else []
    if isinstance(item, Package):
        url = PackageURL(item.registry, name=item.name, version=item.version)
        return Component(
            name=item.name,
            version=item.version,
            type=ComponentType.LIBRARY,
            bom_ref=url.to_string(),
            purl=url,
            licenses=licences,
        )
    return Component(
        name=item.path,
        type=ComponentType(item.kind),
        bom_ref=f"{item.path}@sha256:{item.sha256}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=item.sha256)],
        licenses=licences,
    )
