"""``python -m benchmarks.bars.image --image NAME --bundle FILE``: whether an image keeps the bars of serving.

The container is started read-only, without capabilities and with no-new-privileges; what it may do is read
from inside it. Its answers are compared with those of ONNX Runtime in this process.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console

from benchmarks.bars.bar import Bar, in_one_line, print_bars, to_dicts
from benchmarks.bars.container import Container, Engine, find_engine
from deploy.bundle import Bundle, load_bundle

__all__ = ["Inside", "image_bars", "main"]

_STARTS = 5
_SAMPLES = 8
_MB = 1e6
_SECONDS = " s"

LOOK = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/1/status").read().splitlines())
def writes(folder):
    try:
        with open(folder + "/.written", "w"):
            return True
    except OSError:
        return False
skip = ("/proc", "/sys", "/dev")
folders = [f for f, _, _ in os.walk("/") if not (f + "/").startswith(tuple(s + "/" for s in skip))]
print(json.dumps({
    "uid": int(status["Uid"].split()[1]),
    "capabilities": sum(int(status["Cap" + kind], 16).bit_count() for kind in ("Eff", "Prm", "Bnd")),
    "no_new_privileges": status["NoNewPrivs"].strip() == "1",
    "writable": [f for f in folders if writes(f)],
    "torch": any(os.path.isdir(f + "/torch") for f in folders),
    "shells": [p for p in ("/bin/sh", "/bin/bash", "/usr/bin/perl", "/usr/bin/apt") if os.path.exists(p)],
}))
"""


@dataclass(frozen=True)
class Inside:
    """What a process in the container may do, as it finds itself.

    Attributes:
        uid: user that it runs as.
        capabilities: of Linux, that it has or could get, counted in each set.
        no_new_privileges: whether programs that it starts can get none.
        writable: folders it can write to, outside ``/proc``, ``/sys`` and ``/dev``.
        torch: whether there is a PyTorch.
        shells: of some programs that help an intruder, those there are.
    """

    uid: int
    capabilities: int
    no_new_privileges: bool
    writable: Sequence[str]
    torch: bool
    shells: Sequence[str]


def image_bars(engine: Engine, image: str, bundle: Path) -> list[Bar]:
    """Start the image a few times, ask it, stop it.

    Args:
        engine: that runs it.
        image: its name.
        bundle: for ONNX Runtime on this processor.

    Raises:
        BadInput: there is no such image, or it does not get ready with this bundle.
    """
    loaded = load_bundle(bundle)
    size = int(engine.inspect("image", image)["Size"])
    starts = []
    for _ in range(_STARTS - 1):
        with Container(engine, image, bundle) as container:
            starts.append(container.ready_s)
    with Container(engine, image, bundle) as container:
        starts.append(container.ready_s)
        different, asked = _different(container, loaded)
        looked = container.python(LOOK)
        inside = Inside(**json.loads(looked.stdout))
        memory = _resident(container.get("/metrics").decode())
        health = container.health()
        nobody = container.python(
            "import runpy; runpy.run_path('/app/health.py', run_name='__main__')",
            ["OCTAVO_HEALTH_URL=http://127.0.0.1:1/"],
        ).returncode
        code, seconds = container.stop()
    return [
        Bar("image, unpacked", "at most", 350, size / _MB, " MB", digits=0),
        Bar(
            f"from `run` to ready, median of {_STARTS}", "at most", 3, median(starts), _SECONDS,
            remark=", ".join(f"{s:.2f}" for s in starts),
        ),
        Bar(f"resident memory after {asked} requests", "at most", 250, memory / _MB, " MB", digits=0),
        Bar(
            "values that differ from ONNX Runtime's in process", "at most", 0, different, digits=0,
            remark=f"{asked} samples, bit for bit, through the REST endpoint",
        ),
        Bar("runs as root (1) or not (0)", "at most", 0, int(inside.uid == 0), digits=0,
            remark=f"uid {inside.uid}"),
        Bar("capabilities", "at most", 0, inside.capabilities, digits=0),
        Bar("no-new-privileges", "at least", 1, int(inside.no_new_privileges), digits=0),
        Bar("folders that can be written", "at most", 0, len(inside.writable), digits=0,
            remark=", ".join(inside.writable)),
        Bar("shells, package managers, PyTorch inside", "at most", 0, len(inside.shells) + inside.torch,
            digits=0, remark=", ".join(inside.shells)),
        Bar("health check: healthy", "at least", 1, int(health == "healthy"), digits=0, remark=health),
        Bar("health check: fails where nobody answers", "at least", 1, int(nobody == 1), digits=0),
        Bar("exit code after SIGTERM", "at most", 0, abs(code), digits=0),
        Bar("from SIGTERM to the end", "at most", 10, seconds, _SECONDS),
    ]  # fmt: skip


def _different(container: Container, bundle: Bundle) -> tuple[int, int]:
    """Values of outputs that are not the same bits, and how many samples were asked, one at a time."""
    tensor = bundle.manifest.model_input
    shape = [1, *(size or 1 for size in tensor.shape[1:])]
    random = np.random.default_rng(0)
    different = 0
    with bundle.runner() as runner:
        for _ in range(_SAMPLES):
            sample = random.standard_normal(shape).astype(tensor.dtype)
            own = runner.infer({tensor.name: sample})[bundle.manifest.model_output.name]
            different += int((container.infer(tensor.name, sample) != own).sum())
    return different, _SAMPLES


def _resident(metrics: str) -> float:
    """Bytes, of the metrics' text."""
    found = re.search(r"^process_resident_memory_bytes (\S+)$", metrics, re.MULTILINE)
    return float(found.group(1)) if found else float("nan")


def main() -> int:
    """Measure, print, and with ``--out`` store; returns 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.image", description=__doc__)
    parser.add_argument("--image", required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--engine", help="docker or podman; the first that answers")
    parser.add_argument(
        "--busy", action="store_true", help="the machine has other work: times are told, and not judged"
    )
    parser.add_argument("--json", action="store_true", help="print the figures for machines")
    options = parser.parse_args()
    bars = image_bars(find_engine(options.engine), options.image, options.bundle)
    if options.json:
        print(json.dumps(to_dicts(bars), indent=2))
    else:
        print_bars(bars, Console())
    judged = [bar for bar in bars if not (options.busy and bar.unit == _SECONDS)]
    return 0 if all(bar.reached for bar in judged) else 1


if __name__ == "__main__":
    sys.exit(in_one_line("benchmarks.bars.image", main))
