"""Tables as Parquet, for notebooks and data bases; needs the optional package pyarrow."""

from collections.abc import Iterable, Sequence
from io import BytesIO
from types import ModuleType
from typing import Any

from benchmarks.report.flat import SAMPLE_COLUMNS, columns, flat_rows, sample_rows
from benchmarks.report.runs import Run
from quant.errors import BadInput

__all__ = ["figures_parquet", "samples_parquet"]


def figures_parquet(runs: Sequence[Run]) -> bytes:
    """The flat table; see :func:`benchmarks.report.flat.flat_rows`.

    Raises:
        BadInput: pyarrow is not installed.
    """
    rows = flat_rows(runs)
    return _written({name: [row.get(name) for row in rows] for name in columns(rows)})


def samples_parquet(runs: Sequence[Run]) -> bytes:
    """Every timed call, one row each; see :data:`benchmarks.report.flat.SAMPLE_COLUMNS`.

    Raises:
        BadInput: pyarrow is not installed.
    """
    cells: Iterable[Sequence[Any]] = list(zip(*sample_rows(runs), strict=True)) or [()] * len(SAMPLE_COLUMNS)
    return _written(dict(zip(SAMPLE_COLUMNS, map(list, cells), strict=True)))


def _written(table: dict[str, list[Any]]) -> bytes:
    arrow, parquet = _pyarrow()
    text = BytesIO()
    arrays = {name: arrow.array(values, type=_kind(arrow, values)) for name, values in table.items()}
    parquet.write_table(arrow.table(arrays), text, compression="zstd")
    return text.getvalue()


def _kind(arrow: ModuleType, values: list[Any]) -> Any:
    """One type per column, wide enough for all of it; a column of nothing but gaps is of numbers."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} and kinds:
        return arrow.bool_()
    if kinds <= {int} and kinds:
        return arrow.int64()
    return arrow.float64() if kinds <= {int, float} else arrow.string()


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise BadInput("Parquet needs the package pyarrow: pip install 'octavo[parquet]'") from error
    return pyarrow, parquet
