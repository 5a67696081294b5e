"""The options of `octavo serve` and ``python -m deploy.serve``; argparse, for images have no Typer."""

import argparse
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from deploy.serve.settings import ServeSettings
from quant.errors import BadInput

__all__ = ["Command", "parse"]


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line, read.

    Attributes:
        bundles: name, or None, and path of each.
        target: that the bundles must have been made for; None is this machine's.
        settings: of the server.
        log_level: least level that is written.
    """

    bundles: tuple[tuple[str | None, Path], ...]
    target: str | None
    settings: ServeSettings
    log_level: str


def parse(arguments: Sequence[str], prog: str) -> Command:
    """Read a command line; prints and exits on ``--help`` and on what argparse refuses (exit code 2).

    Raises:
        BadInput: a value is out of range.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve bundles over the Open Inference Protocol, REST and gRPC. Several are served side "
        "by side; the page at / asks each of them about an image.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("bundles", nargs="+", metavar="[NAME=]BUNDLE", help="from `octavo package`")
    parser.add_argument("--target", help="that the bundles were made for, if not for this processor")
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="info: each request",
    )
    parser.add_argument("--no-grpc", action="store_true", help="HTTP only")
    for field in dataclasses.fields(ServeSettings):
        kind = {"str": str, "float": float}.get(str(getattr(field.type, "__name__", field.type)), int)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help=_meaning(field.name)
        )
    given = vars(parser.parse_args(arguments))
    bundles, target, level = given.pop("bundles"), given.pop("target"), given.pop("log_level")
    if given.pop("no_grpc"):
        given["grpc_port"] = None
    return Command(tuple(map(_named, bundles)), target, ServeSettings(**given), level)


def _named(text: str) -> tuple[str | None, Path]:
    """``NAME=PATH`` or ``PATH``; a path that is there is one, whatever characters it has."""
    name, equals, path = text.partition("=")
    if not equals or Path(text).exists() or "/" in name:
        return None, Path(text)
    if not name or not path:
        raise BadInput(f"'{text}' is not NAME=BUNDLE")
    return name, Path(path)


def _meaning(name: str) -> str:
    """The field's words in the docstring of the settings."""
    found = re.search(rf"^\s+{name}: (.*?)(?=\n\s+\w+: |\n\s*$)", ServeSettings.__doc__ or "", re.M | re.S)
    return " ".join(found.group(1).split()).replace("%", "%%") if found else ""
