"""A server of small bundles of images, in a process of its own as users start it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.bundle.runs import image_project, packed
from tests.octavo.project import ROOT

VARIANTS = ("fp32", "int8")


@dataclass(frozen=True)
class Made:
    """Bundles of one model by variant, and the images it was validated with."""

    bundles: dict[str, Path]
    images: list[Path]


def make_bundles(folder: Path) -> Made:
    """Run a small project of images, and package FP32 and INT8 of it."""
    sys.path.insert(0, str(folder))
    try:
        project = image_project(folder)
        project.settings["targets"] = ["ort-x86"]
        result = project.run()
        assert result.exit_code == 0, result.output
        bundles = {name: packed(project.out, folder / f"{name}.zip", variant=name).path for name in VARIANTS}
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("octavo_test_models", None)
    return Made(bundles, [folder / f"{i}.png" for i in range(12)])


@contextmanager
def serving(*arguments: object) -> Iterator[str]:
    """The address of a server that is ready; it ends with a signal, and must end well.

    Args:
        arguments: bundles and options.
    """
    command = [sys.executable, "-m", "deploy.serve", *map(str, arguments)]
    free = ["--target", "ort-x86", "--port", "0", "--no-grpc", "--drain-s", "0"]
    process = subprocess.Popen(
        command + free, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    address, lines = "", []
    for line in process.stderr:
        lines.append(line)
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "listening":
            address = f"http://127.0.0.1:{event['port']}"
        if event.get("event") == "ready":
            break
    else:
        raise AssertionError("".join(lines))
    try:
        yield address
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=60)
        assert process.returncode == 0, rest
