"""The licence of the weights, as an SPDX identifier, an expression, or a text."""

from dataclasses import dataclass
from pathlib import Path

import timm
from cyclonedx.spdx import fixup_id, is_expression

from quant.errors import BadInput
from quant.models.config import ModelConfig

__all__ = ["License", "license_of", "published_license"]

_MOST_BYTES = 2**20


@dataclass(frozen=True)
class License:
    """A licence.

    Attributes:
        spdx: an identifier or expression of SPDX; None where it is not known, or a text.
        text: of a file.
    """

    spdx: str | None = None
    text: bytes | None = None

    @property
    def in_bill(self) -> str | None:
        """What the bill of materials says."""
        return "see the file LICENSE" if self.text is not None else self.spdx


def license_of(given: str) -> License:
    """What the user says of it.

    Args:
        given: an SPDX identifier or expression, or the path of a text.

    Raises:
        BadInput: it is none of these.
    """
    known = fixup_id(given)
    if known is not None or is_expression(given):
        return License(spdx=known or given)
    path = Path(given)
    if not path.is_file():
        raise BadInput(
            f"--license is '{given}', which is no identifier of SPDX, such as Apache-2.0 or 'MIT OR CC0-1.0' "
            "(spdx.org/licenses), and no file"
        )
    text = path.read_bytes()
    if len(text) > _MOST_BYTES:
        raise BadInput(f"{path}: is no licence, it has {len(text)} bytes; allowed are {_MOST_BYTES}")
    return License(text=text)


def published_license(model: ModelConfig) -> License:
    """What timm says of weights that it downloads; of others nobody but the user knows."""
    about = timm.get_pretrained_cfg(model.name) if model.pretrained else None
    known = fixup_id(getattr(about, "license", None) or "")
    return License(spdx=known)
