"""A process's own memory, as Linux tells it."""

from pathlib import Path

from quant.errors import BadInput

__all__ = ["read_status"]

_MIB_PER_KIB = 1 / 1024


def read_status(field: str, path: Path = Path("/proc/self/status")) -> float:
    """A memory field of the Linux process status, in MiB.

    ``VmHWM`` and not ``getrusage``: the latter's peak is inherited from the process that started this one.

    Raises:
        BadInput: the system does not tell.
    """
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise BadInput(f"memory is measured on Linux only: {path}: {error.strerror}") from error
    for line in lines:
        key, _, value = line.partition(":")
        if key == field:
            return int(value.split()[0]) * _MIB_PER_KIB
    raise BadInput(f"{path} has no field {field}; memory cannot be measured on this system")
