import re
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pins
import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BY_ARCHITECTURE = {"numpy", "onnxruntime", "pillow", "httptools", "orjson", "grpcio", "protobuf"}


def key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9_.-]", name.strip())[0]).lower()


def pinned(name: str) -> dict[str, tuple[str, list[str]]]:
    text = (ROOT / f"docker/requirements-{name}.txt").read_text().replace("\\\n", "")
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            (package, version), hashes = (
                line.split()[0].split("=="),
                re.findall(r"sha256:([0-9a-f]{64})\b", line),
            )
            found[package] = version, hashes
    return found


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return {key(n): v for n, v in (line.split("==") for line in lines if not line.startswith("#"))}


@pytest.mark.parametrize("name", ["cpu", "tensorrt", "pycuda", "pycuda-build"])
def test_every_package_has_a_version_and_a_hash(name: str) -> None:
    found = pinned(name)
    assert found
    assert all(hashes for _, hashes in found.values())


@pytest.mark.parametrize("name", ["cpu", "tensorrt"])
def test_versions_are_those_that_were_tested(name: str) -> None:
    lock = locked()
    for package, (version, _) in pinned(name).items():
        assert lock.get(package, version) == version, f"{package}: run `make image-requirements`"
    assert pinned("cpu").keys() <= lock.keys()


@pytest.mark.parametrize("name", ["cpu", "tensorrt"])
def test_all_that_serving_needs_is_there_and_all_that_that_needs(name: str) -> None:
    found = pinned(name)
    waiting = [key(n) for n in pins.names_of(PROJECT, pins.IMAGES["cpu"])]
    assert len(waiting) == len(pins.CORE) + len(PROJECT["optional-dependencies"]["serve"])
    seen = set()
    while waiting:
        package = waiting.pop()
        if package not in seen:
            seen.add(package)
            assert package in found, f"{package}: run `make image-requirements`"
            waiting += [key(r) for r in requires(package) or () if ";" not in r]


def test_nothing_of_training_is_served() -> None:
    for name in ("cpu", "tensorrt"):
        assert not pinned(name).keys() & {
            "torch",
            "torchvision",
            "timm",
            "onnx",
            "pydantic",
            "scipy",
            "typer",
        }


def test_the_cpu_image_has_wheels_of_both_architectures() -> None:
    found = pinned("cpu")
    assert {package for package, (_, hashes) in found.items() if len(hashes) == 2} == BY_ARCHITECTURE


def report(**versions: str) -> dict[str, Any]:
    return {
        "install": [
            {
                "metadata": {"name": name, "version": version.split("@")[0]},
                "download_info": {"archive_info": {"hashes": {"sha256": version}}},
            }
            for name, version in versions.items()
        ]
    }


def test_hashes_of_all_architectures_are_listed_once() -> None:
    text = pins.render("this", [report(a="1@x", b_c="2@y"), report(a="1@z", b_c="2@y")])
    head = "# this. Made by `make image-requirements`; do not edit.\n"
    assert (
        text
        == head
        + "a==1 \\\n    --hash=sha256:1@x \\\n    --hash=sha256:1@z\nb-c==2 \\\n    --hash=sha256:2@y\n"
    )


def test_architectures_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a is 2 on one architecture, 1 on another"):
        pins.render("this", [report(a="1"), report(a="2")])
