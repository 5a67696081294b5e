import os
import stat
from pathlib import Path

import pytest

from benchmarks.peers.environments import cache_folder, interpreter_path, make_interpreter
from benchmarks.peers.process import PeerFailed
from quant.errors import BadInput

# Does what `python -m venv` and `pip install` do to the folders, but for installing anything.
FAKE = """#!/bin/sh
if [ "$2" = venv ]; then
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
    exit
fi
for list; do :; done
echo "Collecting $(cat "$list")"
if grep -q broken "$list"; then
    echo "ERROR: No matching distribution found for broken==1"
    exit 1
fi
if grep -q slow "$list"; then sleep 30; fi
echo "$@" > "$(dirname "$0")/installed"
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "fake-python"
    path.write_text(FAKE)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def listed(tmp_path: Path, text: str, name: str = "tool.txt") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_an_environment_is_built_once_from_exactly_the_list(tmp_path: Path, base: Path) -> None:
    requirements, cache = listed(tmp_path, "wheel==1\n"), tmp_path / "cache"
    said: list[str] = []
    shown: list[str] = []
    python = make_interpreter(requirements, cache, said.append, shown.append, base)
    assert python.is_file()
    assert python == interpreter_path(requirements, cache)
    words = (python.parent / "installed").read_text().split()
    assert words[:3] == ["-m", "pip", "install"]
    assert "--no-deps" in words
    assert words[-2:] == ["--requirement", str(requirements)]
    assert len(said) == 1
    assert "Collecting wheel==1" in shown
    assert make_interpreter(requirements, cache, said.append, shown.append, base) == python
    assert len(said) == 1, "built a second time"
    assert [entry.name for entry in cache.iterdir()] == [python.parent.parent.name]


def test_another_list_is_another_environment_but_a_comment_is_not(tmp_path: Path) -> None:
    one = interpreter_path(listed(tmp_path, "a==1\n"), tmp_path)
    assert interpreter_path(listed(tmp_path, "# why\na==1\n\n"), tmp_path) == one
    assert interpreter_path(listed(tmp_path, "a==2\n"), tmp_path) != one


def test_a_failed_installation_leaves_nothing_and_gives_the_reason(tmp_path: Path, base: Path) -> None:
    requirements, cache = listed(tmp_path, "broken==1"), tmp_path / "cache"
    with pytest.raises(PeerFailed, match="No matching distribution found for broken==1"):
        make_interpreter(requirements, cache, base=base)
    assert list(cache.iterdir()) == []


def test_an_interrupted_installation_leaves_nothing(tmp_path: Path, base: Path) -> None:
    requirements, cache = listed(tmp_path, "slow==1"), tmp_path / "cache"

    def interrupt(line: str) -> None:
        assert "slow" in line
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_interpreter(requirements, cache, show=interrupt, base=base)
    assert list(cache.iterdir()) == []


def test_what_a_killed_build_left_is_removed_and_not_taken_for_whole(tmp_path: Path, base: Path) -> None:
    requirements, cache = listed(tmp_path, "a==1"), tmp_path / "cache"
    name = interpreter_path(requirements, cache).parent.parent.name
    dead, alive = cache / f".{name}.{2**22 + 1}.part", cache / f".other-0.{os.getpid()}.part"
    for folder in (dead, alive):
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").touch()
    make_interpreter(requirements, cache, base=base)
    assert not dead.exists()
    assert alive.exists(), "a build that goes on was removed"


def test_two_builds_at_once_end_with_one_environment(tmp_path: Path, base: Path) -> None:
    requirements, cache = listed(tmp_path, "a==1"), tmp_path / "cache"
    python = interpreter_path(requirements, cache)

    def other_is_faster(line: str) -> None:
        assert line
        if not python.exists():
            python.parent.mkdir(parents=True)
            python.write_text("theirs")

    assert make_interpreter(requirements, cache, show=other_is_faster, base=base) == python
    assert python.read_text() == "theirs"
    assert [entry.name for entry in cache.iterdir()] == [python.parent.parent.name]


def test_an_interpreter_that_cannot_be_started_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(PeerFailed, match=r"no-python: cannot be started: No such file"):
        make_interpreter(listed(tmp_path, "a==1"), tmp_path / "c", base=tmp_path / "no-python")


def test_the_cache_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OCTAVO_PEERS", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("OCTAVO_PEERS")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/octavo/peers")


def test_a_cache_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="OCTAVO_PEERS names another"):
        make_interpreter(listed(tmp_path, "a==1"), tmp_path / "file" / "cache")


def test_every_list_of_the_repository_pins_each_package_once() -> None:
    folder = Path(__file__).parents[3] / "benchmarks" / "peers" / "requirements"
    lists = sorted(folder.glob("*.txt"))
    assert lists
    for path in lists:
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        names = [line.partition("==")[0].lower() for line in lines]
        assert all("==" in line and "://" not in line for line in lines), path
        assert len(set(names)) == len(names), path
