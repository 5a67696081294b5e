"""``python -m benchmarks.bars.arm64_image --image NAME --bundle FILE``: the ARM64 serving image, emulated.

Does it start, say that it is healthy, answer over REST what ARM's ONNX Runtime answers in process, bit for
bit, and end? Nothing is timed: an emulator's times say nothing.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.arm64.cpus import CPUS, cpu_named
from benchmarks.arm64.emulator import Emulator, check_host
from benchmarks.arm64.jobs import Job, do_on_arm
from benchmarks.arm64.rootfs import alone_in, make_rootfs
from benchmarks.arm64.served import emulated
from benchmarks.bars.bar import Bar, in_one_line, print_bars
from benchmarks.bars.container import Engine, find_engine
from deploy.bundle import load_bundle
from deploy.bundle.layout import MODEL

__all__ = ["main"]

SAMPLES = 8
_LOCK = Path(__file__).parents[2] / "requirements.lock"
_FIRST = next(iter(CPUS))


def main() -> int:
    """Measure and print; returns 1 when a bar is missed, 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.arm64_image", description=__doc__)
    parser.add_argument("--image", required=True, help="for linux/arm64, as `make images` names it")
    parser.add_argument("--bundle", type=Path, required=True, help="made for ort-arm64")
    parser.add_argument("--engine", choices=("podman", "docker"), default="podman")
    parser.add_argument("--cpu", choices=list(CPUS), default=_FIRST)
    parser.add_argument(
        "--build", type=Path, default=Path("build/arm64"), help="as that of benchmarks.bars.arm64"
    )
    given = parser.parse_args()
    check_host()
    console = Console(stderr=True)
    with alone_in(given.build):
        root = make_rootfs(given.build, _LOCK, lambda text: console.print(f"  {text}", style="dim"))
        emulator = Emulator(root, cpu_named(given.cpu))
        bars = image_bars(
            find_engine(given.engine), given.image, given.bundle, emulator, given.build / "served"
        )
    print_bars(bars, Console())
    return 0 if all(bar.reached for bar in bars) else 1


def image_bars(engine: Engine, image: str, bundle: Path, emulator: Emulator, folder: Path) -> list[Bar]:
    """Start the image, ask it, stop it.

    Args:
        engine: that runs it.
        image: its name.
        bundle: for ``ort-arm64``.
        emulator: what it is compared with.
        folder: kept between runs.

    Raises:
        BadInput: there is no such image, it does not get ready, or the bundle is for another target.
    """
    loaded = load_bundle(bundle, "ort-arm64")
    tensor, output = loaded.manifest.model_input, loaded.manifest.model_output
    shape = [1, *(size or 1 for size in tensor.shape[1:])]
    random = np.random.default_rng(0)
    samples = [random.standard_normal(shape).astype(np.float32) for _ in range(SAMPLES)]
    job = Job("served", loaded.files[MODEL], [{tensor.name: one} for one in samples], (output.name,))
    (own,) = do_on_arm([job], emulator, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with emulated(engine, image, bundle, emulator.cpu, folder) as served:
        healthy = json.loads(served.get("/v2/health/live")) == {"live": True}
        answers = np.concatenate([served.infer(tensor.name, one) for one in samples])
        code, _ = served.stop()
    different = int((answers != own.outputs[output.name]).sum())
    said = f"{SAMPLES} samples, bit for bit, through the REST endpoint; {emulator.cpu.name}"
    return [
        Bar("health: answers", "at least", 1, int(healthy), digits=0),
        Bar("logits that differ from ARM's in process", "at most", 0, different, digits=0, remark=said),
        Bar("exit code after SIGTERM", "at most", 0, abs(code), digits=0),
    ]


if __name__ == "__main__":
    raise SystemExit(in_one_line("benchmarks.bars.arm64_image", main))
