"""The shell scripts, with an engine that writes down what it is asked."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A folder whose ``podman`` keeps its arguments, and whose ``docker`` does not answer."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "podman").write_text('#!/bin/sh\nprintf "%s\\n" "$@" ---- >>"$CALLS"\n')
    (folder / "docker").write_text("#!/bin/sh\nexit 1\n")
    for path in folder.iterdir():
        path.chmod(0o755)
    return folder


def build(engine: Path, *arguments: str, **settings: str) -> tuple[int, str, list[list[str]]]:
    calls = engine.parent / "calls"
    environment = {"PATH": f"{engine}:{os.environ['PATH']}", "CALLS": str(calls), **settings}
    command = [shutil.which("bash") or "bash", str(ROOT / "docker/build.sh"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    asked = calls.read_text().split("----\n")[:-1] if calls.exists() else []
    return done.returncode, done.stderr, [call.splitlines() for call in asked if not call.startswith("info")]


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        ((), {}, "'' is no image; it can be cpu, builder, tensorrt or bundle"),
        (("gpu",), {}, "'gpu' is no image"),
        (("cpu",), {}, "BASE is not set; give a base image with a digest"),
        (("cpu",), {"ENGINE": "lxc"}, "ENGINE is 'lxc'; it can be docker or podman"),
        (("cpu",), {"ENGINE": "docker"}, "no container engine answers (tried: docker)"),
        (("cpu",), {"BASE": "b@sha256:0", "PLATFORM": "linux/s390x"}, "give a base image of this machine"),
        (("bundle",), {}, "BUNDLE is ''; it must be a zip"),
        (("bundle",), {"BUNDLE": "/nowhere.zip"}, "BUNDLE is '/nowhere.zip'; it must be a zip"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(
    engine: Path, arguments: tuple[str, ...], settings: dict[str, str], said: str
) -> None:
    code, error, calls = build(engine, *arguments, **settings)
    assert code == 2
    assert error.count("\n") == 1
    assert said in error
    assert not [call for call in calls if call[0] == "build"]


def test_the_engine_that_answers_is_asked_with_all_settings(engine: Path) -> None:
    base = "registry.example/python@sha256:0"
    code, error, calls = build(engine, "cpu", BASE=base, CA="/ca.crt", PREFIX="registry.example/octavo:")
    assert (code, error) == (0, "")
    (call,) = [call for call in calls if call[0] == "build"]
    assert call[call.index("--tag") + 1] == "registry.example/octavo:cpu"
    assert call[call.index("--secret") + 1] == "id=ca,src=/ca.crt"
    assert call[call.index("--format") + 1] == "docker"  # or podman would drop the health check
    given = {call[i + 1].split("=")[0]: call[i + 1] for i, word in enumerate(call) if word == "--build-arg"}
    assert given["BASE"] == f"BASE={base}"
    assert given["BUILD_BASE"] == f"BUILD_BASE={base}"
    assert given["VERSION"] != "VERSION="
    assert call[-1] == str(ROOT)


def test_a_base_that_can_change_is_noted(engine: Path) -> None:
    code, error, _ = build(engine, "builder", BASE="docker.io/library/python:3.11-slim-bookworm")
    assert code == 0
    assert "has no digest, so it can change" in error


def test_a_bundle_is_built_in_from_a_folder_of_its_own(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "my model.zip").write_text("bundle")
    (engine / "podman").write_text(
        '#!/bin/sh\nfor last; do :; done\nls "$last" >>"$CALLS" 2>/dev/null\nexit 0\n'
    )
    code, _, _ = build(engine, "bundle", BUNDLE=str(tmp_path / "my model.zip"), IMAGE="i", NAME="n")
    assert code == 0
    assert (tmp_path / "calls").read_text().split() == ["bundle.zip"]
