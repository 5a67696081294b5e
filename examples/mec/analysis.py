"""The analysis ``mec_gates``: exported actors in the closed loop, run by ONNX Runtime, against the float one.

Every file of the run is called with one state at a time, as in a base station, on traces that no training,
calibration or validation has seen. Two controls must fail, or the gates prove nothing: an untrained actor,
and nobody offloading.
"""

from contextlib import ExitStack

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator

from benchmarks.analyses.findings import Findings
from benchmarks.analyses.registry import register_analysis
from deploy.onnxruntime.run import OrtRunner
from deploy.pipeline.line import FLOAT, Line, float_variant, variant_name
from examples.mec.actors import Actor, OrtActor
from examples.mec.checkpoint import Checkpoint, load_checkpoint
from examples.mec.contenders import BASELINES, actor, all_local, baseline, torch_actor
from examples.mec.features import features
from examples.mec.queues import States
from examples.mec.report import findings_of
from examples.mec.states import StatesOptions, validation_states
from examples.mec.study import compare_all
from examples.mec.timing import size_of, time_decisions
from examples.mec.traces import Trace, draw_trace, stack_traces
from examples.mec.transformer import MecTransformer
from export.targets import Target
from quant.data.config import expand
from quant.encoding import freeze
from quant.errors import BadInput
from quant.progress import Progress
from quant.recipe import Recipe
from quant.words import near

__all__ = ["GatesOptions", "mec_gates"]

UNTRAINED, ALL_LOCAL = "untrained", "all_local"
FLOAT_AGAIN = "fp32_pytorch"  # the positive control
_LAST_SEED = 1_000_000  # from here on training, calibration and validation draw their traces


class GatesOptions(BaseModel):
    """Options.

    Attributes:
        arrival: mean arrivals, Mb per slot and user; those that the actor was trained for where left out.
        traces: how many, side by side.
        frames: slots of each.
        first_seed: of the first trace; the others count on from it.
        steady: whether the float actor's queues settle at these arrivals; at the edge of
            what can be served they wander, and a single candidate does not keep up.
        states: states of the float actor's own simulation that the others judge.
        must_pass: recipes that must pass all gates.
        must_fail: recipes that must fail some.
        controls: whether the float model in PyTorch must pass, an untrained one and nobody offloading fail.
            Beyond what can be served the float actor itself misses what is asked of energy.
        baselines: policies without an actor, of :data:`examples.mec.contenders.BASELINES`.
        target: whose files are run; the first of the run where left out.
        timed_calls: calls of each file that are timed; 0 times none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arrival: float | None = Field(default=None, gt=0)
    traces: int = Field(default=3, ge=1)
    frames: int = Field(default=3000, ge=20)
    first_seed: int = Field(default=0, ge=0, lt=_LAST_SEED)
    steady: bool = True
    states: int = Field(default=1024, ge=8)
    must_pass: tuple[str, ...] = ()
    must_fail: tuple[str, ...] = ()
    controls: bool = True
    baselines: tuple[str, ...] = ("best_of_one",)
    target: str | None = None
    timed_calls: int = Field(default=2000, ge=0)

    @field_validator("baselines")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in BASELINES:
                raise ValueError(
                    f"no baseline '{name}'{near(name, BASELINES)}; known: {', '.join(BASELINES)}"
                )
        return value


@register_analysis("mec_gates", GatesOptions)
def mec_gates(line: Line, options: GatesOptions, progress: Progress) -> Findings:
    """Simulate every file of the run, and judge it.

    Args:
        line: a run whose model is an actor of :mod:`examples.mec.train`.
        options: see there.
        progress: told what is done.

    Raises:
        BadInput: the model has no checkpoint, or a recipe that must pass or fail is not one of the run's.
    """
    expected = _expected(line, options)
    if line.config.model.weights is None:
        raise BadInput("mec_gates needs an actor with `weights`; `python -m examples.mec.train` makes some")
    checkpoint = load_checkpoint(expand(line.config.model.weights))
    system, target = checkpoint.record.system, line.target_named(options.target)
    names = {FLOAT: float_variant(target) if target.lowers_float else FLOAT}
    names |= {recipe.name: variant_name(recipe, target) for recipe in line.recipes}
    paths = {name: line.workspace.path(f"{variant}/model.onnx") for name, variant in names.items()}
    arrival = options.arrival or checkpoint.record.training.arrival
    drawn = StatesOptions(states=options.states, frames=min(StatesOptions().frames, options.frames))
    states = validation_states(checkpoint, drawn)
    with ExitStack() as stack:
        masked = checkpoint.record.architecture.masked
        files = {name: OrtActor(stack.enter_context(OrtRunner(path)), masked) for name, path in paths.items()}
        study = compare_all(
            system,
            _traces(checkpoint, options, arrival),
            actor(FLOAT, system, files[FLOAT]),
            [
                torch_actor(FLOAT_AGAIN, system, checkpoint.model),
                *(actor(recipe.name, system, files[recipe.name]) for recipe in line.recipes),
                torch_actor(UNTRAINED, system, untrained(checkpoint)),
                all_local(system),
            ],
            [baseline(name, system) for name in options.baselines],
            steady=options.steady,
            states=options.states,
            same_decisions={
                recipe.name: _same_decisions(line, recipe, target, files[recipe.name], states, masked)
                for recipe in line.recipes
            },
            progress=progress,
        )
        times = {}
        if options.timed_calls:
            progress("timing decisions", 0, len(files))
            times = {
                n: time_decisions(system, file, states, options.timed_calls) for n, file in files.items()
            }
    sizes = {name: size_of(path) for name, path in paths.items()}
    frames = (options.traces, options.frames)
    return findings_of(study, checkpoint.record, expected, times, sizes, arrival, frames)


def untrained(checkpoint: Checkpoint) -> MecTransformer:
    """An actor of the same architecture with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return checkpoint.record.architecture.build().eval()


def _expected(line: Line, options: GatesOptions) -> dict[str, bool]:
    """Who must pass (True) or fail (False)."""
    for name in (*options.must_pass, *options.must_fail):
        line.recipe_named(name)
    must = {**dict.fromkeys(options.must_pass, True), **dict.fromkeys(options.must_fail, False)}
    return {FLOAT_AGAIN: True, **must, UNTRAINED: False, ALL_LOCAL: False} if options.controls else must


def _traces(checkpoint: Checkpoint, options: GatesOptions, arrival: float) -> Trace:
    training, system = checkpoint.record.training, checkpoint.record.system
    seeds = range(options.first_seed, options.first_seed + options.traces)
    return stack_traces(
        [
            draw_trace(
                system,
                arrival,
                options.frames,
                seed,
                changes=training.changes,
                fewest=training.fewest,
            )
            for seed in seeds
        ]
    )


def _same_decisions(
    line: Line, recipe: Recipe, target: Target, file: Actor, states: States, masked: bool
) -> float:
    """Share of states in which the file decides as the fake-quant model does."""
    calibrated = line.calibrated(recipe)
    freeze(calibrated, target.encoding(line.config.saturation_guard))
    with torch.inference_mode():
        simulated = calibrated.graph(torch.from_numpy(features(states, masked))).numpy()
    alike = ((simulated > 0) == (file.logits(states) > 0)) | ~states.active
    return float(np.mean(alike.all(axis=1)))
