"""What runs inside the emulator; needs NumPy and ONNX Runtime alone.

``python3 device.py FOLDER``: does the jobs of ``FOLDER/jobs.json``, each in a folder of its own, see
`benchmarks.arm64.jobs`.
"""

import ctypes
import json
import os
import platform
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

__all__ = ["main"]

_HWCAP, _ASIMDDP = 16, 1 << 20  # getauxval(3); arch/arm64/include/uapi/asm/hwcap.h


def main(folder: Path) -> None:
    """Do the jobs."""
    for name in json.loads((folder / "jobs.json").read_text()):
        _do(folder / name)
    (folder / "machine.json").write_text(json.dumps(_machine()))


def _do(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, job["level"])
    for key, value in job["config"].items():
        options.add_session_config_entry(key, value)
    if job["graph"]:
        options.optimized_model_filepath = str(folder / "executed.onnx")
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
    session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    for part in range(job["parts"]):
        with np.load(folder / f"feeds-{part}.npz") as feeds:
            values = session.run(job["outputs"], dict(feeds))
        np.savez(folder / f"outputs-{part}.npz", **dict(zip(job["outputs"], values, strict=True)))
    if job["graph"]:
        profile = json.loads(Path(session.end_profiling()).read_text())
        (folder / "operators.json").write_text(json.dumps(_operators(profile, job["parts"])))
    for part in range(job["parts"]):
        (folder / f"feeds-{part}.npz").unlink()  # of a large model these are gigabytes
    os.replace(folder / "job.json", folder / "done.json")


def _operators(profile: list[dict[str, Any]], runs: int) -> dict[str, int]:
    """How often each operator ran in one of the runs."""
    ran = Counter(
        str(event["args"]["op_name"]) for event in profile if event["name"].endswith("_kernel_time")
    )
    return {name: count // runs for name, count in ran.items()}


def _machine() -> dict[str, Any]:
    libc = ctypes.CDLL(None)
    libc.getauxval.restype = ctypes.c_ulong
    return {
        "architecture": platform.machine(),
        "dot_product": bool(libc.getauxval(_HWCAP) & _ASIMDDP),
        "onnxruntime": ort.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
