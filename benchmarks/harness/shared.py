"""Our own packages on the path of another interpreter, and nothing of what may lie beside them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["shared_packages"]

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("benchmarks", "deploy", "quant")


@contextmanager
def shared_packages() -> Iterator[dict[str, str]]:
    """The environment variables with which another interpreter can import our packages.

    Where Octavo is installed, its packages lie among those of our environment, which are not for another one.
    So the path is a folder of links to ours alone.
    """
    with tempfile.TemporaryDirectory(prefix="octavo-") as folder:
        for name in _PACKAGES:
            (Path(folder) / name).symlink_to(_ROOT / name)
        yield {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1"}
