"""Make ``requirements-*.txt`` anew: what the serving images install, each file's SHA-256 beside its version.

``python docker/pins.py`` asks the package index, by pip, which wheels each architecture would get, and
downloads none. Versions are those of ``requirements.lock``; names are those of ``pyproject.toml``: its extra
`serve`, and :data:`CORE` of its dependencies. What is not in the lock, which only the TensorRT image has,
gets its newest version.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CORE", "IMAGES", "Image", "main", "names_of", "render"]

HERE = Path(__file__).parent
ROOT = HERE.parent
CORE = ("numpy", "onnxruntime", "pillow")
"""The dependencies of Octavo that loading and running a bundle takes."""

_HEAD = "# {what}. Made by `make image-requirements`; do not edit.\n"
_BUILT = {"pycuda": ("pycuda",), "pycuda-build": ("setuptools",)}
"""What the TensorRT image builds from source, and what it builds that with."""


@dataclass(frozen=True)
class Image:
    """An image whose Python packages are pinned.

    Attributes:
        python: version of its Python.
        machines: architectures, as wheels name them.
        extra: packages besides those that every image has.
    """

    python: str
    machines: tuple[str, ...]
    extra: tuple[str, ...] = ()


IMAGES = {
    "cpu": Image("3.11", ("x86_64", "aarch64")),
    "tensorrt": Image("3.12", ("x86_64",), ("pytools", "platformdirs", "siphash24", "mako")),
}
"""By name. The TensorRT image builds pycuda, which has no wheels; the extras are what pycuda needs."""


def names_of(project: Mapping[str, Any], image: Image) -> list[str]:
    """What pip is asked for.

    Args:
        project: the table `project` of ``pyproject.toml``.
        image: of :data:`IMAGES`.
    """
    core = [line for line in project["dependencies"] if re.split(r"[^A-Za-z0-9_.-]", line)[0] in CORE]
    return [*core, *project["optional-dependencies"]["serve"], *image.extra]


def platforms(machine: str) -> list[str]:
    """Options of pip: wheels for glibc 2.28 and older, which Debian 12 and Ubuntu 24.04 run."""
    return [f"--platform=manylinux{version}_{machine}" for version in ("_2_28", "_2_27", "_2_17", "2014")]


def render(what: str, reports: Iterable[Mapping[str, Any]]) -> str:
    """The file's text.

    Args:
        what: it is for.
        reports: of pip, one per architecture.

    Raises:
        ValueError: two architectures would get different versions.
    """
    versions: dict[str, str] = {}
    hashes: dict[str, set[str]] = {}
    for report in reports:
        for item in report["install"]:
            package = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
            version = item["metadata"]["version"]
            if versions.setdefault(package, version) != version:
                raise ValueError(
                    f"{package} is {version} on one architecture, {versions[package]} on another"
                )
            hashes.setdefault(package, set()).add(item["download_info"]["archive_info"]["hashes"]["sha256"])
    text = _HEAD.format(what=what)
    for package in sorted(versions):
        lines = [f"{package}=={versions[package]}", *(f"--hash=sha256:{h}" for h in sorted(hashes[package]))]
        text += " \\\n    ".join(lines) + "\n"
    return text


def _wheels_only(image: Image, machine: str) -> list[str]:
    """Options of pip that choose wheels for another Python and architecture than this one's."""
    return [
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={image.python}",
        *platforms(machine),
    ]


def _ask(names: Sequence[str], options: Sequence[str]) -> dict[str, Any]:
    """The report of pip, of what it would install."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
            f"--report={report}", f"--target={folder}/site", f"--constraint={ROOT / 'requirements.lock'}",
            *options, *names,
        ]  # fmt: skip
        # Wheels that only this machine has must not get into the list.
        environment = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
        subprocess.run(command, check=True, env=environment)
        answer: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return answer


def main() -> int:
    """Write the files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, image in IMAGES.items():
        wanted = names_of(project, image)
        what = (
            f"What the image `{name}` installs: Python {image.python}, wheels for {', '.join(image.machines)}"
        )
        _write(name, render(what, [_ask(wanted, _wheels_only(image, m)) for m in image.machines]))
    for name, names in _BUILT.items():
        _write(name, render("For the image `tensorrt`, which builds pycuda", [_ask(names, ["--no-deps"])]))
    return 0


def _write(name: str, text: str) -> None:
    aside = HERE / f".requirements-{name}.txt"
    aside.write_text(text, encoding="utf-8")
    aside.rename(HERE / f"requirements-{name}.txt")
    print(f"docker/requirements-{name}.txt: {text.count('==')} packages")


if __name__ == "__main__":
    raise SystemExit(main())
