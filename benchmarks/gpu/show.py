"""A result for people: Markdown tables, every row with what computed it."""

from typing import Any

from deploy.markdown import escape, markdown_table

__all__ = ["markdown"]

_COLUMNS = ("By", "What", "Batch", "Median", "p99", "mJ per call", "Agreement", "SQNR", "In 8 bits", "")


def markdown(result: dict[str, Any]) -> str:
    """The tables.

    Args:
        result: what :func:`benchmarks.gpu.measure.measure` returned.
    """
    device = result["device"]
    title = f"{device['name']} ({device['compute']})" if device.get("name") else "no GPU"
    driver = f", driver {device['driver']}" if device.get("driver") else ""
    parts = [f"# {escape(title)}{driver}"]
    for name, section in result["sections"].items():
        parts.append(f"## {name}: {escape(section['end'])} ({section['seconds']:.0f} s)")
        if section["rows"]:
            parts.append(markdown_table(_COLUMNS, [_row(row) for row in section["rows"]]))
    return "\n\n".join(parts) + "\n"


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    timed, more = row["timed"] or {}, row["more"]
    return (
        escape(row["by"]),
        escape(row["what"]),
        str(row["batch"]),
        _number(timed.get("median_ms"), " ms", 3),
        _number(timed.get("p99_ms"), " ms", 3),
        _number(timed.get("millijoules"), "", 1),
        _number(more.get("agreement_float"), " %", 1, 100),
        _number(more.get("sqnr_db_float"), " dB", 1),
        _number(more.get("share_in_8_bits"), " %", 1, 100),
        escape(row["note"]),
    )


def _number(value: float | str | None, unit: str, digits: int, factor: float = 1.0) -> str:
    return "–" if value is None else f"{factor * float(value):.{digits}f}{unit}"
