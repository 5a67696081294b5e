"""What is emulated, where it is refused, and that a crash in it ends."""

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.arm64 import emulator as module
from benchmarks.arm64.cpus import CPUS, cpu_named
from benchmarks.arm64.emulator import Emulator, check_host
from benchmarks.kit import measure
from benchmarks.kit.measure import CPUINFO
from deploy.cpu import parse_cpuinfo
from quant.errors import BadInput, Unsupported


def test_each_processor_promises_what_it_has_and_no_more() -> None:
    with_dots, without = CPUS["neoverse-n1"], CPUS["cortex-a72"]
    assert parse_cpuinfo(with_dots.cpuinfo(2)) == ("", ("asimd", "asimddp", "asimdhp"))
    assert parse_cpuinfo(without.cpuinfo(2)) == ("", ("asimd",))
    assert (with_dots.dot_product, without.dot_product) == (True, False)
    blocks = with_dots.cpuinfo(3).split("\n\n")
    assert len(blocks) == 3
    assert all(f"\n{key}" in blocks[0] for key in CPUINFO if key.startswith("CPU"))


def test_an_unknown_processor_is_refused() -> None:
    with pytest.raises(BadInput, match="'m4'; known: neoverse-n1, cortex-a72"):
        cpu_named("m4")


def test_it_says_what_is_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def which(name: str, path: str | None = None) -> str | None:  # noqa: ARG001
        return None if "qemu" in name else f"/bin/{name}"

    monkeypatch.setattr(shutil, "which", which)
    with pytest.raises(BadInput, match=r"not installed: apt-get install qemu-user-static$"):
        check_host()


def test_who_is_not_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/bin/{name}")  # noqa: ARG005
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BadInput, match="run this as root"):
        check_host()


@pytest.mark.parametrize(
    ("rule", "registered"),
    [
        ("enabled\ninterpreter /usr/bin/qemu\nflags: POF\n", True),
        ("enabled\ninterpreter /usr/bin/qemu\nflags: PO\n", False),  # QEMU would be looked for inside
        (None, False),
    ],
)
def test_a_rule_counts_only_where_qemu_is_in_the_kernels_hands(
    rule: str | None, registered: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if rule is not None:
        (tmp_path / "qemu-aarch64").write_text(rule)
    monkeypatch.setattr(module, "_BINFMT", tmp_path)
    assert module._registered() is registered


def test_a_program_that_crashes_ends_and_is_named(emulator: Emulator, tmp_path: Path) -> None:
    code = "import os; os.kill(os.getpid(), 11)"
    with pytest.raises(Unsupported, match=r"python3 under neoverse-n1 crashed by signal 11"):
        emulator.run(["/usr/bin/python3", "-c", code], tmp_path)


def test_inside_is_another_processor_and_nothing_of_this_machine(emulator: Emulator, tmp_path: Path) -> None:
    code = "import os, platform; print(platform.machine(), os.getcwd(), os.path.exists(%r))"
    told = emulator.run(["/usr/bin/python3", "-c", code % str(tmp_path)], tmp_path)
    assert told.split() == ["aarch64", "/work", "False"]
    with pytest.raises(Unsupported, match="Read-only file system"):
        emulator.run(["/usr/bin/python3", "-c", "open('/etc/new', 'w')"], tmp_path)


def test_a_kit_notices_that_it_is_emulated(emulator: Emulator, tmp_path: Path) -> None:
    shutil.copy(measure.__file__, tmp_path)
    code = "import measure; print(measure._device()['emulated'])"
    assert emulator.run(["/usr/bin/python3", "-c", code], tmp_path).strip() == "True"
    assert measure._device()["emulated"] is False
