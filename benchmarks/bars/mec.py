"""``python -m benchmarks.bars.mec``: what the quantized offloading actor promises, and the published figures.

The critic against values of the published code; the baselines against published figures; an actor that learns
online for 10,000 slots; then both runs of ``examples/mec.yaml``, whose files ONNX Runtime runs in the closed
loop on five traces of 5,000 slots (λ = 3.0) and three (λ = 3.2), W8A8 within the gates, and what must fail
failing.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console

from benchmarks.analyses.findings import read_findings
from benchmarks.bars.bar import Bar, in_one_line, print_bars, to_dicts
from benchmarks.bars.runs import do_run
from benchmarks.environment import describe_environment
from benchmarks.files import write_text
from deploy.pipeline.config import AnalysisConfig, BenchConfig, config_of
from deploy.pipeline.suite import suite_of
from examples.mec.checkpoint import Architecture, Training, load_checkpoint
from examples.mec.critic import allocate
from examples.mec.golden import worst_error
from examples.mec.measures import Measures, second_half, summarize
from examples.mec.policies import (
    AllLocal,
    AllOffload,
    BestOfOne,
    CoordinateDescent,
    Exhaustive,
    Policy,
    Random,
)
from examples.mec.simulation import simulate
from examples.mec.states import StatesOptions, validation_states
from examples.mec.system import MecSystem
from examples.mec.traces import cut, draw_trace, stack_traces
from examples.mec.train import train, weights_file

__all__ = ["baseline_bars", "critic_bars", "gate_bars", "learning_bars", "main"]

SUITE = Path(__file__).resolve().parents[2] / "examples" / "mec.yaml"
RUNS = {"load_3-0": 5, "load_3-2": 3}
"""Run to the number of its traces."""

FRAMES = 5000
W8A8 = "edge"
MUST_FAIL = ("untrained", "all_local", "w4a4")
_SPREAD = 2.0
"""Mb. Mean backlogs of single traces differ by 1.5 Mb (standard deviation); both sides are means of three."""

_CANDIDATES = 20  # of a learning actor: K = N, and as many with noise
_SHOWN: Sequence[tuple[str, Literal["at least", "at most"], float]] = (
    ("rate ratio", "at least", 0.99),
    ("weighted rate ratio", "at least", 0.99),
    ("queue ratio", "at most", 1.05),
    ("objective ratio, K = N", "at least", 0.999),
    ("same decisions", "at least", 0.93),
)


def critic_bars() -> list[Bar]:
    """Exactness and speed of the critic."""
    checkpoint = load_checkpoint(weights_file(3.0))
    system = checkpoint.record.system
    states = validation_states(checkpoint, StatesOptions())
    single = [states[i : i + 1] for i in range(len(states))]
    offload = np.random.default_rng(0).random((_CANDIDATES, system.users)) < 0.2
    taken = []
    for state in single:
        start = time.perf_counter()
        allocate(system, state, offload[None])
        taken.append((time.perf_counter() - start) / _CANDIDATES * 1e6)
    start = time.perf_counter()
    Exhaustive(system).decide(states[:32])
    many = (time.perf_counter() - start) / (32 * 1024) * 1e6
    remark = (
        f"median over {len(single)} slots, {_CANDIDATES} candidates each; {many:.1f} µs where all 1,024 are"
    )
    return [
        Bar(
            "critic: relative difference from the published values", "at most", 1e-6, worst_error(), digits=9
        ),
        Bar("critic: time of a candidate", "at most", 20, median(taken), " µs", 1, remark),
    ]


def baseline_bars(console: Console, frames: int = 10_000) -> list[Bar]:
    """Policies without an actor against what was published of them at λ = 3, on other traces."""
    system = MecSystem()
    trace = stack_traces([draw_trace(system, 3.0, frames, seed) for seed in range(3)])

    def measured(policy: Policy, most: int = frames) -> tuple[Measures, Measures]:
        console.print(f"  {type(policy).__name__}", style="dim")
        done = simulate(system, cut(trace, most), policy)
        return summarize(system, done), summarize(system, second_half(done))

    bars: list[Bar] = []
    near_optimal: list[tuple[str, Policy, float]] = [
        ("exhaustive search", Exhaustive(system), 25.6),
        ("coordinate descent", CoordinateDescent(system), 25.8),
        ("best of nobody and one user", BestOfOne(system), 25.2),
    ]
    # Their queues grow, and with them the rates of users that offload: each over as many slots as published.
    unstable: list[tuple[str, Policy, float, int]] = [
        ("all local", AllLocal(system), 20.06, 10_000),
        ("all offload", AllOffload(system), 14.86, 10_000),
        ("random", Random(system, seed=0), 25.2, 2_000),
    ]
    for name, policy, published in near_optimal:
        whole, late = measured(policy)
        remark = f"{late.backlog:.1f} Mb; published {published}, other traces"
        off = abs(late.backlog - published)
        bars += [
            Bar(f"{name}: share of arrivals served", "at least", 99.8, 100 * whole.served, " %"),
            Bar(
                f"{name}: second-half backlog off the published one",
                "at most",
                _SPREAD,
                off,
                " Mb",
                1,
                remark,
            ),
        ]
    for name, policy, published, most in unstable:
        whole, _ = measured(policy, most)
        off = abs(whole.rate - published)
        remark = f"{whole.rate:.2f} Mbps over {min(most, frames):,} slots; published {published}"
        bars.append(Bar(f"{name}: rate off the published one", "at most", 0.2, off, " Mbps", 2, remark))
    return bars


def learning_bars(seed: int = 0, frames: int = 10_000) -> list[Bar]:
    """An actor that learns online from random weights, with noisy candidates."""
    system = MecSystem()
    start = time.perf_counter()
    _, done, losses = train(system, Architecture(), Training(arrival=3.0, frames=frames, seed=seed))
    seconds = time.perf_counter() - start
    whole, late = summarize(system, done), summarize(system, second_half(done))
    what = "FP32 actor that learns online"
    return [
        Bar(f"{what}: time of {frames:,} slots", "at most", 120, seconds, " s", 0),
        Bar(f"{what}: share of arrivals served", "at least", 99.8, 100 * whole.served, " %"),
        Bar(f"{what}: second-half backlog", "at most", 28, late.backlog, " Mb per user", 1),
        Bar(f"{what}: slope of it", "at most", 0.003, abs(late.slope), " Mb per slot", 4),
        Bar(f"{what}: energy", "at most", 0.0801, whole.energy, " J", 5),
        Bar(f"{what}: energy of the user that spends most", "at most", 0.0801, whole.worst_energy, " J", 5),
        Bar(f"{what}: loss of the last steps", "at most", 0.05, float(np.mean(losses[-50:])), digits=3),
    ]


def gate_bars(run: str, figures: Mapping[str, Any]) -> list[Bar]:
    """What the analysis of a run found.

    Args:
        run: its name.
        figures: of the analysis ``mec_gates``.
    """
    results, load = figures["results"], f"λ = {figures['arrival']:g}"
    most = max(results["fp32"]["loops"], key=int)
    own = results["fp32"]["loops"][most]
    bars = [
        Bar(f"{load}, FP32: energy", "at most", 0.0801, own["whole"]["energy"], " J", 5),
    ]
    if run == "load_3-0":
        bars.append(
            Bar(f"{load}, FP32: second-half backlog", "at most", 28, own["late"]["backlog"], " Mb", 1)
        )
        share = 100 * own["whole"]["rate"] / own["whole"]["arrivals"]
        bars.append(Bar(f"{load}, FP32: share of arrivals served", "at least", 99.8, share, " %"))
    for gate, kind, limit in _SHOWN:
        bars.append(Bar(f"{load}, W8A8: {gate}", kind, limit, results[W8A8]["gates"][gate], digits=4))
    failed = results[W8A8]["failed"]
    remark = ", ".join(failed)
    bars.append(Bar(f"{load}, W8A8: gates that fail", "at most", 0, len(failed), digits=0, remark=remark))
    for name in MUST_FAIL:
        failed = results[name]["failed"]
        what = f"{load}, {name}: gates that fail, as some must"
        bars.append(Bar(what, "at least", 1, len(failed), digits=0, remark=", ".join(failed)))
    return bars


def run_figures(run: str, out: Path, console: Console, frames: int = FRAMES) -> Mapping[str, Any]:
    """Do a run of the example with the traces of the protocol, and read what its analysis found."""
    config = config_of(suite_of(SUITE, [run])[run], SUITE)
    gates = config.analyses[0]
    options = {"traces": RUNS[run], "frames": frames, "timed_calls": 0}
    changed = {
        "analyses": (AnalysisConfig.model_validate({**gates.model_dump(), **options}),),
        "targets": ("ort-x86",),
        "bench": BenchConfig(processes=2, warmup=1, calls=2, turn=1),  # its speed is not the question
        "profile": None,
    }
    do_run(config.model_copy(update=changed), out / run, console, until="analyse")
    return read_findings(out / run / "analyses" / gates.folder).figures


def main() -> int:
    """Measure, print, and store ``mec.json``; returns 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.mec", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bars/mec"), help="kept: a rerun resumes")
    out = parser.parse_args().out
    console = Console(stderr=True)
    torch.set_num_threads(1)
    bars = [*critic_bars(), *baseline_bars(console), *learning_bars()]
    for run in RUNS:
        bars += gate_bars(run, run_figures(run, out, console))
    environment = asdict(describe_environment())
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "mec.json", json.dumps({"environment": environment, "bars": to_dicts(bars)}, indent=2))
    print_bars(bars, Console())
    return 0 if all(bar.reached for bar in bars) else 1


if __name__ == "__main__":
    raise SystemExit(in_one_line("mec", main))
