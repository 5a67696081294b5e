"""Where the root file system comes from."""

from pathlib import Path

import pytest

from benchmarks.arm64 import rootfs as module
from benchmarks.arm64.rootfs import make_rootfs, mirror, wheels
from quant.errors import BadInput

LOCK = Path(__file__).parents[3] / "requirements.lock"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "sources.list",
            "# deb http://old/debian x main\ndeb http://one/debian bookworm main\n",
            "http://one/debian",
        ),
        ("sources.list", "deb [signed-by=/k] http://two/debian/ bookworm main\n", "http://two/debian/"),
        (
            "sources.list.d/debian.sources",
            "Types: deb\nURIs: http://three/debian-security\n\nTypes: deb\nURIs: http://four/debian\n",
            "http://four/debian",
        ),
        ("sources.list.d/other.list", "deb https://packages.example/tool stable main\n", None),
    ],
)
def test_debian_comes_from_where_apt_gets_it(
    name: str, text: str, expected: str | None, tmp_path: Path
) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)
    assert mirror(tmp_path) == expected


def test_arm_gets_the_very_versions_that_run_here(tmp_path: Path) -> None:
    import numpy
    import onnxruntime

    assert f"onnxruntime=={onnxruntime.__version__}" in wheels(LOCK)
    assert f"numpy=={numpy.__version__}" in wheels(LOCK)
    (tmp_path / "lock").write_text("numpy==2.0\n")
    with pytest.raises(BadInput, match="has no version of onnxruntime, protobuf"):
        wheels(tmp_path / "lock")


def test_what_was_interrupted_is_made_again_and_what_is_whole_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def do(words: list[str]) -> None:
        done.append(words[0])
        if words[0] == "debootstrap":
            archives = tmp_path / "debian-bookworm.part" / "var/cache/apt/archives"
            archives.mkdir(parents=True)
            (archives / "python3.deb").touch()
        elif "pip" in words and done.count(words[0]) == 1:
            raise BadInput("no network")

    monkeypatch.setattr(module, "_do", do)
    with pytest.raises(BadInput, match="no network"):
        make_rootfs(tmp_path, LOCK, done.append)
    assert not [place for place in tmp_path.glob("rootfs-*") if not place.suffix]
    root = make_rootfs(tmp_path, LOCK, done.append)
    assert (root / "proc").is_dir()
    assert done.count("debootstrap") == 1  # its packages were whole the first time
    done.clear()
    assert make_rootfs(tmp_path, LOCK, done.append) == root
    assert done == []
