"""What became of the cells of a matrix, for people and for machines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from deploy.junit import Case, junit
from deploy.markdown import escape, markdown_table
from deploy.tensorrt.library import Library
from deploy.tensorrt.matrix.cells import Cell

__all__ = ["Build", "Outcome", "junit_of", "markdown"]

Status = Literal["pending", "built", "cached", "failed"]
_MARKS = {"pending": "…", "built": "✅", "cached": "✅", "failed": "❌"}
_LONGEST = 1000  # characters of a message in a comment


@dataclass(frozen=True)
class Outcome:
    """One cell.

    Attributes:
        cell: what was to be built.
        status: ``built`` now, ``cached`` where the engine cache had it, ``failed``, or ``pending``: its turn
            has not come.
        seconds: it took.
        manifest: what the engine was made from, see :class:`deploy.tensorrt.cache.Engine`; None without one.
        message: why there is none.
    """

    cell: Cell
    status: Status = "pending"
    seconds: float = 0.0
    manifest: dict[str, Any] | None = None
    message: str = ""

    @property
    def size_bytes(self) -> int | None:
        """Of the engine."""
        return None if self.manifest is None else int(self.manifest["plan"]["bytes"])

    @property
    def sha256(self) -> str | None:
        """Of the engine."""
        return None if self.manifest is None else str(self.manifest["plan"]["sha256"])

    @property
    def text(self) -> str:
        """The outcome in a line."""
        if self.size_bytes is None:
            return f"{self.status}: {self.message}" if self.message else self.status
        size = f"{self.size_bytes / 2**20:.1f} MiB"
        return f"{size}, from the cache" if self.status == "cached" else f"{size}, {self.seconds:.1f} s"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "model": self.cell.model,
            "variant": self.cell.variant,
            "profile": self.cell.profile,
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "size": self.size_bytes,
            "sha256": self.sha256,
            "message": self.message,
        }


@dataclass(frozen=True)
class Build:
    """All cells of a matrix.

    Attributes:
        name: of the matrix's file, without suffix.
        library: that built.
        outcomes: of the cells, in the order of the file.
    """

    name: str
    library: Library
    outcomes: Sequence[Outcome]

    @property
    def failed(self) -> bool:
        """Whether any cell failed."""
        return any(outcome.status == "failed" for outcome in self.outcomes)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "matrix": self.name,
            "library": self.library.key,
            "version": self.library.version,
            "failed": self.failed,
            "cells": [outcome.to_dict() for outcome in self.outcomes],
        }


def junit_of(build: Build) -> str:
    """A test case per cell, for CI systems."""
    cases = [
        Case(
            f"{outcome.cell.model}.{outcome.cell.variant}",
            outcome.cell.profile,
            outcome.message if outcome.status == "failed" else None,
            outcome.text,
            outcome.seconds,
        )
        for outcome in build.outcomes
    ]
    return junit("octavo build", cases)


def markdown(build: Build) -> str:
    """For a comment on a pull request: all cells, then why some failed."""
    bad = [outcome for outcome in build.outcomes if outcome.status == "failed"]
    count = len(build.outcomes)
    title = f"{len(bad)} of {count} engines failed" if bad else f"{count} engine{'s' if count > 1 else ''}"
    rows = [
        (
            escape(outcome.cell.name),
            f"{_MARKS[outcome.status]} {outcome.status}",
            f"{outcome.seconds:.1f} s",
            "–" if outcome.size_bytes is None else f"{outcome.size_bytes / 2**20:.1f} MiB",
        )
        for outcome in build.outcomes
    ]
    parts = [
        f"### {title} ({build.library.name} {build.library.version})",
        markdown_table(("Engine", "", "Time", "Size"), rows),
        "\n".join(f"- {escape(o.cell.name)}: {escape(o.message[:_LONGEST])}" for o in bad),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
