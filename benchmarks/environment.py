"""Where a measurement was taken: hardware, software and thread settings, without importing any of it."""

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.cpu import cpu_info

__all__ = ["PACKAGES", "Environment", "describe_environment", "product_commit"]

PACKAGES = ("octavo", "torch", "timm", "onnx", "onnxruntime", "onnxsim", "numpy", "tensorrt")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Environment:
    """What a figure depends on besides the model.

    Attributes:
        cpu: model name; empty where the system does not tell.
        architecture: e.g. ``x86_64``.
        isa: instruction-set extensions that inference uses.
        cores: logical CPUs this process may run on.
        governor: frequency governor of the first CPU; ``None`` where it cannot be read.
        memory_gib: memory of the machine.
        system: operating system and kernel.
        python: version of Python.
        packages: package name to version, installed ones only.
        commit: commit of Octavo, with ``-dirty`` when files differ from it; ``None`` outside its repository.
        thread_variables: thread settings taken from environment variables.
        gpu: name and runtime of the GPU that ran the models; ``None`` where the CPU did.
    """

    cpu: str
    architecture: str
    isa: tuple[str, ...]
    cores: int
    governor: str | None
    memory_gib: float
    system: str
    python: str
    packages: dict[str, str]
    commit: str | None
    thread_variables: dict[str, str]
    gpu: str | None = None


def describe_environment() -> Environment:
    """Describe this machine and this installation."""
    cpu = cpu_info()
    return Environment(
        cpu=cpu.model,
        architecture=cpu.architecture,
        isa=cpu.isa,
        cores=cpu.cores,
        governor=_read(_GOVERNOR),
        memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages={name: v for name in PACKAGES if (v := _version(name)) is not None},
        commit=product_commit(_ROOT),
        thread_variables={name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
    )


def product_commit(root: Path) -> str | None:
    """The commit checked out at ``root``; ``None`` unless ``root`` itself is a repository's top folder.

    An installed copy that merely lies somewhere inside another repository has no commit of its own.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    head = _git(root, "rev-parse", "HEAD")
    if top is None or head is None or Path(top).resolve() != root.resolve():
        return None
    return f"{head}-dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else head


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
