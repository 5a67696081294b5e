import re
import shutil
import subprocess
import sys
from pathlib import Path

import elf
import numpy
import pytest

FILES = [
    Path(sys.executable).resolve(),
    *sorted(Path(numpy.__file__).parent.glob("_core/_multiarray_umath*.so")),
    *sorted(Path(numpy.__file__).parents[1].glob("numpy.libs/*openblas*")),
]


@pytest.mark.skipif(shutil.which("readelf") is None, reason="binutils, the reference, is not installed")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_reads_what_readelf_reads(path: Path) -> None:
    found = elf.read_elf(path)
    text = subprocess.run(["readelf", "-dl", path], capture_output=True, text=True, check=True).stdout
    assert found is not None
    assert list(found.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", text)
    assert ":".join(found.paths) == ":".join(re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", text))
    assert [found.interpreter] == (re.findall(r"interpreter: (.*)\]", text) or [None])


def test_other_files_are_none_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.so").write_text("/* GNU ld script */")
    assert elf.read_elf(tmp_path / "a.so") is None


def test_a_32_bit_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.so").write_bytes(b"\x7fELF\x01\x01" + bytes(100))
    with pytest.raises(ValueError, match="64-bit"):
        elf.read_elf(tmp_path / "a.so")
