"""What ``octavo profile`` left beside a variant, read back from its CSV files."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from quant.errors import BadInput

__all__ = ["Bin", "LayerRow", "ProfileView", "SensitivityRow", "read_profile"]

FOLDER = "profile"


@dataclass(frozen=True)
class LayerRow:
    """One layer of ``statistics.csv``; a figure is ``None`` where it does not apply.

    Attributes:
        name: of the layer.
        kind: linear, conv, attention_qk and so on.
        qsnr_db: QSNR of its output behind the quantized prefix, dB; infinite without any error.
        isolated_qsnr_db: QSNR of the layer alone, dB.
        weight_bits: width of the weight's codes.
        input_bits: width of the input's codes.
    """

    name: str
    kind: str
    qsnr_db: float | None
    isolated_qsnr_db: float | None
    weight_bits: float | None
    input_bits: float | None


@dataclass(frozen=True)
class SensitivityRow:
    """What one layer alone loses at one width, by one metric."""

    layer: str
    bits: int
    metric: str
    value: float


@dataclass(frozen=True)
class Bin:
    """One bin of a layer's output: the share of the values in it, before and after quantization."""

    layer: str
    low: float
    high: float
    exact: float
    quantized: float


@dataclass(frozen=True)
class ProfileView:
    """The profile of one variant; a part that was not measured is empty."""

    layers: tuple[LayerRow, ...] = ()
    sensitivity: tuple[SensitivityRow, ...] = ()
    histograms: tuple[Bin, ...] = ()


def read_profile(variant: Path) -> ProfileView | None:
    """Read ``VARIANT/profile``, if it is there.

    Args:
        variant: the folder of the variant in its run.

    Raises:
        BadInput: a file of it cannot be read or lacks a column.
    """
    folder = variant / FOLDER
    if not folder.is_dir():
        return None
    return ProfileView(
        layers=tuple(_layers(folder / "statistics.csv")),
        sensitivity=tuple(_sensitivity(folder / "sensitivity.csv")),
        histograms=tuple(_histograms(folder / "histograms.csv")),
    )


def _layers(path: Path) -> Iterable[LayerRow]:
    for row in _rows(path, ("name", "kind", "qsnr_db", "isolated_qsnr_db", "weight_bits", "input_bits")):
        if row["kind"] != "block":
            figures = (
                _number(path, row, k) for k in ("qsnr_db", "isolated_qsnr_db", "weight_bits", "input_bits")
            )
            yield LayerRow(row["name"], row["kind"], *figures)


def _sensitivity(path: Path) -> Iterable[SensitivityRow]:
    for row in _rows(path, ("layer", "bits")):
        for metric in row.keys() - {"layer", "bits"}:
            value = _number(path, row, metric)
            if value is not None:
                yield SensitivityRow(row["layer"], int(row["bits"]), metric, value)


def _histograms(path: Path) -> Iterable[Bin]:
    names = ("low", "high", "float", "quantized")
    for row in _rows(path, ("layer", *names)):
        low, high, exact, quantized = (_number(path, row, name) or 0.0 for name in names)
        yield Bin(row["layer"], low, high, exact, quantized)


def _rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"cannot read {path}: {error}; run `octavo profile` again") from error
    missing = [name for name in needed if found and name not in found[0]]
    if missing or any(None in row.values() for row in found):
        raise BadInput(
            f"{path} is not whole: it lacks {', '.join(missing) or 'cells'}; run `octavo profile` again"
        )
    return found


def _number(path: Path, row: dict[str, str], column: str) -> float | None:
    try:
        return float(row[column]) if row[column] else None
    except ValueError as error:
        raise BadInput(f"{path}: {column} is {row[column]!r}; run `octavo profile` again") from error
