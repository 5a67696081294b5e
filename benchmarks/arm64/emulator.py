"""Run a program of the ARM root file system, shut off from this machine but for one folder.

It gets namespaces of its own for mounts, processes and the network (unshare(1)), so nothing is left mounted
however it ends. QEMU itself is in the kernel's hands (binfmt_misc, flag F), and not in the root file system.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arm64.cpus import Cpu
from quant.errors import BadInput, Unsupported

__all__ = ["PACKAGES", "WORK", "Emulator", "check_host", "qemu_version", "register"]

WORK = "/work"
"""Where the shared folder is inside."""

PACKAGES = {"qemu-aarch64-static": "qemu-user-static", "debootstrap": "debootstrap", "unshare": "util-linux"}
"""Program to the Debian package that has it."""

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_ENTRY = "qemu-aarch64"
_RULE = Path("/usr/lib/binfmt.d") / f"{_ENTRY}.conf"
_CRASHED = 128  # a shell's status for signal n is this plus n (POSIX.1-2017, 2.8.2)

# sh stays as process 1 of the namespace: a program that crashes in that place under QEMU hangs for ever.
_ENTER = f"""
set -e
root=$1 cpuinfo=$2 folder=$3
shift 3
mount --make-rprivate /
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount --bind "$cpuinfo" "$root/proc/cpuinfo"
mount -t tmpfs tmpfs "$root/tmp"
mount --bind "$folder" "$root{WORK}"
mount -o remount,bind,ro "$root"
set +e
"$chroot" "$root" "$@"
exit $?
"""


@dataclass(frozen=True)
class Emulator:
    """A processor and the files it sees.

    Attributes:
        root: the root file system, see `benchmarks.arm64.rootfs`.
        cpu: the processor.
    """

    root: Path
    cpu: Cpu

    def run(self, words: Sequence[str], folder: Path, shown: bool = False) -> str:
        """Run a program to its end.

        Args:
            words: the program and its arguments, as they are inside.
            folder: seen as ``/work``, its working folder.
            shown: show what it says on its error output as it comes.

        Returns:
            What it printed.

        Raises:
            Unsupported: it failed; the message has the end of what it said.
        """
        cpuinfo = folder / ".cpuinfo"
        cpuinfo.write_text(self.cpu.cpuinfo(len(os.sched_getaffinity(0))), encoding="ascii")
        inside = ["/usr/bin/env", "-C", WORK, *(f"{k}={v}" for k, v in self._environment().items()), *words]
        outside = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-c", _ENTER, "sh"]
        places = [str(self.root.resolve()), str(cpuinfo.resolve()), str(folder.resolve())]
        done = subprocess.run(
            [*outside, *places, *inside],
            env={"PATH": os.environ["PATH"], "chroot": _program("chroot"), "QEMU_CPU": self.cpu.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE,
            check=False,
            text=True,
        )
        if done.returncode:
            how = f"ended with {done.returncode}"
            if done.returncode > _CRASHED:
                how = f"crashed by signal {done.returncode - _CRASHED}"
            last = "" if done.stderr is None else f": {done.stderr.strip()[-500:]}"
            raise Unsupported(f"{words[0]} under {self.cpu.name} {how}{last}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "PYTHONPATH": "/opt/site", "OMP_NUM_THREADS": "1"}


def check_host() -> None:
    """Refuse a machine on which nothing can be emulated.

    Raises:
        BadInput: saying what is missing and how to get it.
    """
    missing = sorted({package for program, package in PACKAGES.items() if not _program(program)})
    if missing:
        raise BadInput(f"ARM64 is emulated by QEMU; not installed: apt-get install {' '.join(missing)}")
    if os.geteuid() != 0:
        raise BadInput("a root file system is entered by root alone (chroot, mount): run this as root")
    if not _registered():
        register()


def register() -> None:
    """Have the kernel run ARM programs by QEMU, as Debian's package does where systemd is there.

    Raises:
        BadInput: this kernel or container does not allow it.
    """
    hint = f"cat {_RULE} > {_BINFMT}/register"
    try:
        if not (_BINFMT / "register").exists():
            subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)], check=True)
        if not _registered():
            (_BINFMT / "register").write_bytes(_RULE.read_bytes().strip())
    except (OSError, subprocess.CalledProcessError) as error:
        raise BadInput(f"the kernel cannot be told to run ARM programs by QEMU ({error}): {hint}") from error


def qemu_version() -> str:
    """What QEMU says of itself, one line."""
    told = subprocess.run([_program("qemu-aarch64-static"), "--version"], capture_output=True, text=True)
    return told.stdout.partition("\n")[0]


def _registered() -> bool:
    try:
        rule = (_BINFMT / _ENTRY).read_text(encoding="ascii")
    except OSError:
        return False
    flags = next((line.partition(":")[2] for line in rule.splitlines() if line.startswith("flags")), "")
    return "F" in flags


def _program(name: str) -> str:
    """Where a program is, also those of the administrator; empty where it is not installed."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or ""
