"""Train the actors of this example and store them beside this file.

From the repository root, each in about a minute on one core:

    python -m examples.mec.train --arrival 3.0
    python -m examples.mec.train --arrival 3.2
    python -m examples.mec.train --arrival 2.2 --users 30 --changes 20 --fewest 5

The same arguments give the same file on the same machine.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from examples.mec.checkpoint import Architecture, Record, Training, save_checkpoint
from examples.mec.learning import Learner, LearnerSettings
from examples.mec.measures import second_half, summarize
from examples.mec.simulation import Trajectory, simulate
from examples.mec.system import MecSystem
from examples.mec.traces import draw_trace
from examples.mec.transformer import MecTransformer

__all__ = ["SEED", "train", "weights_file"]

SEED = 0
FRAMES = 10_000
_TRACE_SEEDS = 1_000_000  # training traces are drawn apart from all others


def train(
    system: MecSystem, architecture: Architecture, training: Training, progress: Progress | None = None
) -> tuple[MecTransformer, Trajectory, list[float]]:
    """Train an actor online, from random weights.

    Returns:
        The actor, what happened while it learned, and the loss of each step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(training.seed)
        model = architecture.build()
    learner = Learner(system, model, LearnerSettings(seed=training.seed))
    trace = draw_trace(
        system,
        training.arrival,
        training.frames,
        _TRACE_SEEDS + training.seed,
        changes=training.changes,
        fewest=training.fewest,
    )
    task = progress.add_task("training", total=training.frames) if progress else None

    def tell(done: int) -> None:
        if progress is not None and task is not None:
            progress.update(task, completed=done)

    return model, simulate(system, trace, learner, tell=tell), learner.losses


def weights_file(arrival: float, users: int = 10) -> Path:
    """Where the weights for these arrivals lie."""
    name = f"actor_{arrival:g}" + (f"_{users}_users" if users != MecSystem.users else "")
    return Path(__file__).with_name(f"{name}.safetensors")


def main() -> None:
    """Train, store, and print what the second half was like."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arrival", type=float, default=3.0, help="mean arrivals, Mb per slot and user")
    parser.add_argument("--users", type=int, default=MecSystem.users)
    parser.add_argument("--changes", type=int, default=0, help="how often the number of users changes")
    parser.add_argument("--fewest", type=int, help="the least number of users then")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, help="where the weights go")
    options = parser.parse_args()

    # One thread adds up in one order, so the weights do not depend on the number of cores.
    torch.set_num_threads(1)
    system = MecSystem(users=options.users)
    architecture = Architecture(users=options.users, masked=options.changes > 0)
    training = Training(options.arrival, options.frames, options.seed, options.changes, options.fewest)
    start = time.perf_counter()
    with Progress() as progress:
        model, trajectory, losses = train(system, architecture, training, progress)
    path = options.out or weights_file(options.arrival, options.users)
    record = Record(architecture, system, training, tuple(round(loss, 4) for loss in losses))
    save_checkpoint(path, model, record)
    found = summarize(system, second_half(trajectory))
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB, {time.perf_counter() - start:.0f} s")
    print(f"second half: rate {found.rate:.3f} of {found.arrivals:.3f} Mbps, energy {found.energy:.5f} J")
    print(f"backlog {found.backlog:.1f} Mb per user, loss {np.mean(losses[-50:]):.3f}")


if __name__ == "__main__":
    main()
