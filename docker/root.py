"""Put together the file system of a serving image: Python, the packages, the libraries they need, no more.

``python root.py --base BASE --site SITE --version VERSION OUT`` copies from the file system of a base image,
which may be of another architecture: nothing in it is run. Known are Debian's Python in ``/usr`` and that of
the official Python image in ``/usr/local``. A library that cannot be found ends the build, not the container.
"""

import argparse
import compileall
import os
import py_compile
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from elf import read_elf
from owners import keep_owners

__all__ = ["Root", "main"]

SITE = "opt/octavo/site"
USER = 65532
"""As in other images without a shell; any other user works as well."""

_NO_STDLIB = (
    "test", "idlelib", "tkinter", "turtledemo", "turtle.py", "ensurepip", "lib2to3", "pydoc_data", "venv",
    "sqlite3", "dbm", "curses", "config-*", "site-packages", "dist-packages", "*/test", "*/tests",
    "__pycache__", "*/__pycache__", "*.a",
)  # fmt: skip
_NO_MODULES = (
    "_tkinter", "_sqlite3", "_dbm", "_gdbm", "_curses", "_curses_panel", "readline", "nis", "ossaudiodev",
    "spwd", "_test*", "_ctypes_test", "_xx*", "xx*",
)  # fmt: skip
_NO_SITE = (
    "bin", "*/tests", "*/test", "__pycache__", "*/__pycache__", "*.pyi", "*.a", "*.h", "*.hpp", "*.pxd",
    "*.pyx", "onnxruntime/transformers", "onnxruntime/tools", "onnxruntime/quantization",
    "onnxruntime/datasets", "onnxruntime/backend", "numpy/f2py", "numpy/_core/include", "numpy/_core/lib",
    "numpy/random/_examples",
)  # fmt: skip
_LOADED_LATER = ("libgcc_s.so.1",)
"""Libraries that no file names: glibc loads this one when a thread is cancelled."""


@dataclass(frozen=True)
class Root:
    """Where files come from and go to.

    Attributes:
        base: the root of the base image's file system.
        out: the root that is filled.
    """

    base: Path
    out: Path

    def real(self, path: str) -> str:
        """The path without symbolic links, as a program inside the base image would see it.

        Args:
            path: in the base image; without a leading slash, here and in the result.

        Raises:
            FileNotFoundError: it leads nowhere.
        """
        parts, done = list(PurePosixPath(path.lstrip("/")).parts), PurePosixPath()
        for _ in range(1000):
            if not parts:
                return str(done)
            part = parts.pop(0)
            here = done.parent if part == ".." else done / part
            found = self.base / here
            if found.is_symlink():
                target = PurePosixPath(os.readlink(found))
                parts[:0] = [p for p in target.parts if p != "/"]
                done = PurePosixPath() if target.is_absolute() else done
            elif found.exists():
                done = here
            else:
                break
        raise FileNotFoundError(path)

    def has(self, path: str) -> bool:
        """Whether the base image has it."""
        try:
            self.real(path)
        except FileNotFoundError:
            return False
        return True

    def take(self, path: str) -> None:
        """Copy a file of the base image; where the path is a link, as a link to what is copied, too."""
        real = self.real(path)
        target = self.out / real
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.base / real, target)
            target.chmod(0o755 if os.access(self.base / real, os.X_OK) else 0o644)
        name = PurePosixPath(path.lstrip("/"))
        link = self.out / self.real(str(name.parent)) / name.name
        if str(link.relative_to(self.out)) != real and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to("/" + real)

    def take_tree(self, source: Path, target: str, without: Iterable[str]) -> None:
        """Copy a folder.

        Args:
            source: it, outside or inside the base image.
            target: where it goes, below ``out``.
            without: patterns of what stays behind, relative to the folder.
        """
        patterns = tuple(without)

        def left_out(folder: str, names: list[str]) -> list[str]:
            inside = PurePosixPath(Path(folder).relative_to(source).as_posix())
            return [n for n in names if any(fnmatch(str(inside / n), pattern) for pattern in patterns)]

        def copy(file: str, to: str) -> None:
            inside = Path(file)
            if inside.is_symlink() and inside.is_relative_to(self.base):
                inside = self.base / self.real(str(inside.relative_to(self.base)))
            shutil.copyfile(inside, to)
            Path(to).chmod(0o644)

        shutil.copytree(source, self.out / target, ignore=left_out, copy_function=copy, symlinks=False)

    def files(self) -> Iterator[Path]:
        """What is there so far."""
        return (p for p in sorted(self.out.rglob("*")) if p.is_file() and not p.is_symlink())


def take_python(root: Root) -> str:
    """Copy the interpreter and its library; returns its version, such as ``3.11``.

    Raises:
        SystemExit: there is none, or it is not of the version that runs this.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for prefix in ("usr/local", "usr"):
        if root.has(f"{prefix}/bin/python{version}") and root.has(f"{prefix}/lib/python{version}/os.py"):
            break
    else:
        raise SystemExit(f"root.py: the base image has no Python {version}, for which the packages are")
    root.take(f"{prefix}/bin/python{version}")
    for name in ("python3", "python"):
        (root.out / prefix / "bin" / name).symlink_to(f"python{version}")
    modules = tuple(f"lib-dynload/{name}.*" for name in _NO_MODULES)
    library = f"{prefix}/lib/python{version}"
    root.take_tree(root.base / library, library, (*_NO_STDLIB, *modules))
    return version


def take_libraries(root: Root) -> None:
    """Copy the shared libraries that anything in the root needs.

    Raises:
        SystemExit: one is nowhere to be found.
    """
    folders = [f"{top}/{sub}" for sub in _folders(root) for top in ("lib", "usr/lib", "usr/local/lib")]
    waiting, seen = list(root.files()), set[Path]()
    for name in _LOADED_LATER:
        waiting += _find(root, name, folders)
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        elf = read_elf(path)
        if elf is None:
            continue
        if elf.interpreter:
            root.take(elf.interpreter)
            waiting.append(root.out / root.real(elf.interpreter))
        origin = "/" + path.parent.relative_to(root.out).as_posix()
        own = [folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", origin) for folder in elf.paths]
        for name in elf.needed:
            inside = [root.out / os.path.normpath(folder).lstrip("/") / name for folder in own]
            if any(candidate.exists() for candidate in inside):
                continue
            found = _find(root, name, [*own, *folders])
            if not found:
                raise SystemExit(
                    f"root.py: {path.relative_to(root.out)} needs {name}, which the base image lacks"
                )
            waiting += found


def _folders(root: Root) -> list[str]:
    """Folders of libraries below ``lib``: those of the architecture, then ``lib`` itself."""
    return [*sorted(p.name for p in (root.base / "usr/lib").glob("*-linux-gnu*") if p.is_dir()), ""]


def _find(root: Root, name: str, folders: Iterable[str]) -> list[Path]:
    for folder in folders:
        path = os.path.normpath(f"/{folder}/{name}").lstrip("/")
        if root.has(path):
            root.take(path)
            return [root.out / root.real(path)]
    return []


def write_system_files(root: Root, version: str) -> None:
    """Users, name look-up, a folder for temporary files, and what tells scanners what this is."""
    for name in ("bin", "sbin", "lib", "lib64"):
        link = root.base / name
        if link.is_symlink() and (root.out / os.readlink(link).lstrip("/")).exists():
            (root.out / name).symlink_to(os.readlink(link))
    etc = root.out / "etc"
    etc.mkdir(parents=True, exist_ok=True)
    (etc / "passwd").write_text(
        f"root:x:0:0:root:/:/sbin/nologin\noctavo:x:{USER}:{USER}:octavo:/:/sbin/nologin\n"
    )
    (etc / "group").write_text(f"root:x:0:\noctavo:x:{USER}:\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    for path in ("etc/ld.so.cache", "etc/os-release"):
        if root.has(path):
            root.take(path)
    (root.out / "tmp").mkdir()
    (root.out / "tmp").chmod(0o1777)
    info = root.out / SITE / f"octavo-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: octavo\nVersion: {version}\n")


def main() -> int:
    """Fill the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="root of the base image's file system")
    parser.add_argument("--site", type=Path, required=True, help="folder of installed packages")
    parser.add_argument("--version", required=True, help="of Octavo")
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    root = Root(options.base, options.out)
    root.out.mkdir(parents=True)
    take_python(root)
    root.take_tree(options.site, SITE, _NO_SITE)
    take_libraries(root)
    write_system_files(root, options.version)
    keep_owners(root.base, root.out)
    # Nothing can be written where it runs, so modules are compiled here; without times, for the same bytes.
    hashed = py_compile.PycInvalidationMode.UNCHECKED_HASH
    good = compileall.compile_dir(
        root.out, maxlevels=99, quiet=1, stripdir=str(root.out), prependdir="/", invalidation_mode=hashed
    )
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
