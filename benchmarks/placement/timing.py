"""Time both forms of every unit against each other."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import numpy as np
from onnx import ModelProto

from benchmarks.harness.turns import Times, take_turns
from benchmarks.placement.windows import Window
from benchmarks.statistics import Ratio, ratio_over_processes
from deploy.onnxruntime.build import SessionSettings, build_session
from deploy.runner import Array
from export.parity.cut import Cut, cut_model
from quant.progress import Progress, silent

__all__ = ["TimingSettings", "UnitTime", "bound_to", "time_windows"]

_QUANTIZED, _PLAIN = "quantized", "plain"


@dataclass(frozen=True)
class TimingSettings:
    """How units are timed.

    Attributes:
        loads: how often both forms are loaded anew; the interval is made of the differences between loads.
        warmup: calls after each load that are not counted.
        calls: counted calls of each load.
        turn: so many of them in a row, then the other form has its turn.
    """

    loads: int = 5
    warmup: int = 3
    calls: int = 20
    turn: int = 5


@dataclass(frozen=True)
class UnitTime:
    """What a unit takes.

    Attributes:
        unit: its name.
        quantized_ms: as the quantized model has it, what is around its products included.
        plain_ms: as the float model has it.
        speedup: plain / quantized, with its 95 % interval over the loads.
    """

    unit: str
    quantized_ms: float
    plain_ms: float
    speedup: Ratio

    @property
    def saved_ms(self) -> float:
        """What quantizing it saves; negative where it costs time."""
        return self.plain_ms - self.quantized_ms


def time_windows(
    windows: Sequence[Window],
    quantized: ModelProto,
    plain: ModelProto,
    images: Array,
    settings: TimingSettings,
    session: SessionSettings,
    progress: Progress = silent,
) -> list[UnitTime]:
    """Load both forms of each window several times and let them take turns.

    Args:
        windows: cut out of these models.
        quantized: the lowered model.
        plain: the float model.
        images: [B, C, H, W], what the models are fed with, so that every window gets what it really reads.
        settings: how.
        session: of ONNX Runtime.
        progress: told what is done.
    """
    values = {
        _QUANTIZED: _values(quantized, [w.quantized for w in windows], images, session),
        _PLAIN: _values(plain, [w.plain for w in windows], images, session),
    }
    found = []
    for number, window in enumerate(windows):
        progress("timing layers", number, len(windows))
        cuts = {_QUANTIZED: window.quantized, _PLAIN: window.plain}
        runs: dict[str, list[Times]] = {name: [] for name in cuts}
        for _ in range(settings.loads):
            callees = {name: _Callee(cut, values[name], session) for name, cut in cuts.items()}
            times = take_turns(callees, warmup=settings.warmup, calls=settings.calls, turn=settings.turn)
            for name, own in times.items():
                runs[name].append(own)
        steady = {name: [load.steady for load in loads] for name, loads in runs.items()}
        ms = {name: median(sample for load in loads for sample in load) for name, loads in steady.items()}
        ratio = ratio_over_processes(steady[_PLAIN], steady[_QUANTIZED])
        found.append(UnitTime(window.unit, ms[_QUANTIZED], ms[_PLAIN], ratio))
    progress("timing layers", len(windows), len(windows))
    return found


@contextmanager
def bound_to(cpus: tuple[int, ...] | None) -> Iterator[None]:
    """Keep this thread, and those that it starts meanwhile, on some processors."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Callee:
    """A cut in a session of its own, which knows no shapes, so that a runner's checks do not apply."""

    def __init__(self, cut: Cut, values: Mapping[str, Array], session: SessionSettings) -> None:
        self._session = build_session(cut.model.SerializeToString(), session)
        self._feeds = {name: values[name] for name in cut.inputs}

    def run(self, calls: int) -> list[float]:
        infer, feeds, clock = self._session.run, self._feeds, time.perf_counter_ns
        times = [0] * calls
        for i in range(calls):
            began = clock()
            infer(None, feeds)
            times[i] = clock() - began
        return [ns / 1e6 for ns in times]


def _values(
    model: ModelProto, cuts: Sequence[Cut], images: Array, session: SessionSettings
) -> dict[str, Array]:
    """What the windows read when the model sees the images."""
    name = model.graph.input[0].name
    wanted = dict.fromkeys(i for cut in cuts for i in cut.inputs if i != name)
    found: dict[str, Array] = {name: images}
    if wanted:
        whole = cut_model(model, [name], wanted)
        outputs = build_session(whole.model.SerializeToString(), session).run(None, {name: images})
        found |= dict(zip(whole.outputs, outputs, strict=True))
    return {key: np.ascontiguousarray(value) for key, value in found.items()}
