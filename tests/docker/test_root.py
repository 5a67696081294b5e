import os
import shutil
import sys
from pathlib import Path

import numpy
import owners
import pytest
import root

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base image with merged folders, as Debian has, whose links are absolute."""
    made = tmp_path / "base"
    (made / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)
    (made / "usr/bin").mkdir()
    (made / "lib").symlink_to("usr/lib")
    (made / "usr/lib/x86_64-linux-gnu/libz.so.1.2").write_text("z")
    (made / "usr/lib/x86_64-linux-gnu/libz.so.1").symlink_to("libz.so.1.2")
    (made / "usr/lib/libabs.so").symlink_to("/lib/x86_64-linux-gnu/libz.so.1")
    return made


def made_of(base: Path, out: Path) -> root.Root:
    out.mkdir()
    return root.Root(base, out)


def test_links_are_followed_inside_the_base_and_nowhere_else(base: Path, tmp_path: Path) -> None:
    made = made_of(base, tmp_path / "out")
    assert made.real("/lib/libabs.so") == "usr/lib/x86_64-linux-gnu/libz.so.1.2"
    (base / "outside").symlink_to("/" + str(tmp_path.relative_to("/")))
    with pytest.raises(FileNotFoundError):
        made.real("outside")
    (base / "loop").symlink_to("loop")
    with pytest.raises(FileNotFoundError):
        made.real("loop")


def test_a_link_is_taken_with_what_it_names(base: Path, tmp_path: Path) -> None:
    made = made_of(base, tmp_path / "out")
    made.take("lib/x86_64-linux-gnu/libz.so.1")
    made.take("lib/libabs.so")
    folder = made.out / "usr/lib/x86_64-linux-gnu"
    assert (folder / "libz.so.1.2").read_text() == "z"
    target = "/usr/lib/x86_64-linux-gnu/libz.so.1.2"
    assert os.readlink(folder / "libz.so.1") == target
    assert os.readlink(made.out / "usr/lib/libabs.so") == target
    assert not (made.out / "lib").exists()


def test_a_tree_is_taken_without_tests_and_headers(base: Path, tmp_path: Path) -> None:
    for name in (
        "p/__init__.py",
        "p/tests/test_a.py",
        "p/a/tests/b.py",
        "p/a/x.h",
        "bin/tool",
        "p/latest.py",
    ):
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    made = made_of(base, tmp_path / "out")
    made.take_tree(tmp_path / "site", root.SITE, root._NO_SITE)
    assert [str(p.relative_to(made.out / root.SITE)) for p in made.files()] == [
        "p/__init__.py",
        "p/latest.py",
    ]


def test_what_is_left_out_is_what_nobody_imports() -> None:
    site = Path(numpy.__file__).parents[1]
    for pattern in root._NO_SITE:
        if pattern.startswith("onnxruntime/"):
            assert (site / pattern).is_dir(), f"{pattern} is not there any more"


def test_a_missing_library_ends_the_build(base: Path, tmp_path: Path) -> None:
    made = made_of(base, tmp_path / "out")
    (library,) = Path(numpy.__file__).parent.glob("_core/_multiarray_umath*.so")
    (made.out / "app").mkdir()
    shutil.copyfile(library, made.out / "app/m.so")
    with pytest.raises(SystemExit, match=r"app/m.so needs \S+, which the base image lacks"):
        root.take_libraries(made)


def test_another_python_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=rf"no P{PYTHON[1:6]} "):
        root.take_python(made_of(base, tmp_path / "out"))


@pytest.mark.parametrize("prefix", ["usr", "usr/local"])
def test_python_is_found_where_debian_and_where_upstream_have_it(
    base: Path, tmp_path: Path, prefix: str
) -> None:
    library = base / prefix / "lib" / PYTHON
    (library / "test").mkdir(parents=True)
    (library / "lib-dynload").mkdir()
    (base / prefix / "bin").mkdir(exist_ok=True)
    (base / prefix / "bin" / PYTHON).write_text("")
    for name in ("os.py", "test/a.py", "lib-dynload/_tkinter.cpython.so", "lib-dynload/_ssl.cpython.so"):
        (library / name).write_text("")
    made = made_of(base, tmp_path / "out")
    root.take_python(made)
    assert os.readlink(made.out / prefix / "bin/python3") == PYTHON
    copied = made.out / prefix / "lib" / PYTHON
    kept = {str(p.relative_to(copied)) for p in made.files() if p.is_relative_to(copied)}
    assert kept == {"os.py", "lib-dynload/_ssl.cpython.so"}


def test_packages_of_copied_files_are_told_with_their_licences(base: Path, tmp_path: Path) -> None:
    info, doc = base / "var/lib/dpkg/info", base / "usr/share/doc"
    info.mkdir(parents=True)
    (base / "var/lib/dpkg/status").write_text(
        "Package: zlib1g\nVersion: 1.2\n\nPackage: perl\nVersion: 5\n\nPackage: libc6\nVersion: 2\n"
    )
    (info / "zlib1g:amd64.list").write_text(
        "/.\n/lib/x86_64-linux-gnu/libz.so.1.2\n"
    )  # before merged folders
    (info / "perl.list").write_text("/.\n/usr/bin/perl\n")
    (doc / "zlib1g").mkdir(parents=True)
    (doc / "zlib1g/copyright").write_text("zlib's")
    made = made_of(base, tmp_path / "out")
    made.take("lib/x86_64-linux-gnu/libz.so.1")
    assert owners.keep_owners(base, made.out) == ["zlib1g"]
    assert (made.out / "var/lib/dpkg/status.d/zlib1g").read_text() == "Package: zlib1g\nVersion: 1.2\n"
    assert (made.out / "usr/share/doc/zlib1g/copyright").read_text() == "zlib's"
