"""The command: options, bundles, server, and errors in one line."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.serve.options import Command, parse
from quant.errors import BadInput, Unsupported

if TYPE_CHECKING:
    from deploy.bundle import Bundle

__all__ = ["main"]

_INTERRUPTED = 130
_NEEDED = (
    "starlette",
    "uvicorn",
    "httptools",
    "orjson",
    "grpc",
    "google.protobuf",
    "prometheus_client",
    "PIL",
)


def main(arguments: Sequence[str], prog: str) -> int:
    """Serve until a signal; what cannot be served is said in one line.

    Args:
        arguments: of the command line.
        prog: what messages call the command.

    Returns:
        The exit code: 0 after a signal, 2 where the bundles or options cannot be served. A second Ctrl-C ends
        the process, with 130.
    """
    try:
        command = parse(arguments, prog)
        missing = [name for name in _NEEDED if not _is_there(name)]
        if missing:
            raise Unsupported(
                f"serving needs packages that are missing: {', '.join(missing)}; install octavo[serve]"
            )
        _serve(command)
    except (BadInput, Unsupported) as error:
        print(f"{prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # the second one; the first is a wish to end in order
        print(f"{prog}: ended without waiting for requests", file=sys.stderr, flush=True)
        os._exit(_INTERRUPTED)  # else grpcio's server, which nobody has stopped, ends in a traceback
    return 0


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _serve(command: Command) -> None:
    # gRPC's core writes lines of its own, with words of whoever connects; it looks here when imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from deploy.serve.logs import log_to_stderr
    from deploy.serve.server import serve

    log_to_stderr(command.log_level)
    bundles = [(name, _loaded(path, command.target)) for name, path in command.bundles]
    serve(bundles, command.settings)


def _loaded(path: Path, target: str | None) -> "Bundle":
    """A bundle for the target that was named; else for this processor, or a GPU, which its engine checks."""
    from deploy.bundle import HERE, check_target, load_bundle

    bundle = load_bundle(path, target)
    if target is None and not bundle.has_engine:
        check_target(path, bundle.manifest, HERE)
    return bundle
