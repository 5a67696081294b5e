"""Code of the user's own that a configuration names."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from quant.data.config import expand
from quant.errors import BadInput
from quant.files import file_sha256

__all__ = ["load_plugins", "plugin_identity"]


def load_plugins(code: Path | None, modules: Sequence[str]) -> None:
    """Make modules of a folder importable, and import some, so that what they register is known.

    The folder comes last in the search, so that no module of it hides one that is installed.

    Raises:
        BadInput: there is no such folder, or a module cannot be imported.
    """
    if code is not None:
        folder = expand(code).resolve()
        if not folder.is_dir():
            raise BadInput(f"{folder}: is not a folder (code of the configuration)")
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # importing runs the user's code
            where = "" if code is not None else "; does the configuration say in which folder it is (code)?"
            raise BadInput(
                f"the plug-in {name!r} cannot be imported: {type(error).__name__}: {error}{where}"
            ) from error


def plugin_identity(modules: Sequence[str]) -> dict[str, str]:
    """What changes when the code of imported plug-ins changes: their files, and those beside and below them.

    Returns:
        Name of each file, relative to the folder of its plug-in, to its SHA-256.
    """
    found = {}
    for name in modules:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None:
            folder = Path(file).parent
            for path in sorted(folder.rglob("*.py")):
                found[f"{name}: {path.relative_to(folder).as_posix()}"] = file_sha256(path)
    return found
