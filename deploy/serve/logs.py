"""Logs: one line of JSON each, on stderr."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

__all__ = ["LOGGER", "log_to_stderr", "report"]

LOGGER = logging.getLogger("octavo.serve")
_OURS = "octavo"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **record.__dict__.get(_OURS, {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_stderr(level: str) -> None:
    """Write this package's, uvicorn's and grpcio's lines to stderr from now on.

    Args:
        level: ``debug``, ``info`` (a line per request), ``warning`` or ``error``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    chosen = getattr(logging, level.upper())
    for name, least in ((LOGGER.name, chosen), ("uvicorn", logging.WARNING), ("grpc", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(max(least, chosen))


def report(event: str, level: int = logging.INFO, **values: Any) -> None:
    """Write a line with some values."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, event, extra={_OURS: values})
