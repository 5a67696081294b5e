"""A study as tables, drawings, figures and sentences."""

from collections.abc import Mapping
from dataclasses import asdict

from pydantic import JsonValue

from benchmarks.analyses.drawings import Point, draw_trade
from benchmarks.analyses.findings import Findings
from benchmarks.profile.drawing import Drawing
from examples.mec.checkpoint import Record
from examples.mec.drawings import Series, draw_cost, draw_curves
from examples.mec.learning import LearnerSettings
from examples.mec.study import Result, Study
from examples.mec.tables import cost_table, gates_table, loops_table, ratios_table, verdict_table
from examples.mec.timing import DecisionTime, FileSize

__all__ = ["findings_of", "surprises"]

_KIB = 1024


def findings_of(
    study: Study,
    record: Record,
    expected: Mapping[str, bool],
    times: Mapping[str, DecisionTime],
    sizes: Mapping[str, FileSize],
    arrival: float,
    frames: tuple[int, int],
) -> Findings:
    """Everything that is shown.

    Args:
        study: the results.
        record: of the float actor.
        expected: who must pass (True) or fail (False).
        times: of decisions, by contender.
        sizes: of the files, by contender.
        arrival: mean arrivals of the traces, Mb per slot and user.
        frames: traces, and slots of each.
    """
    wrong = surprises(study, expected)
    traces = f"{frames[0]} trace{'s' * (frames[0] > 1)} of {frames[1]:,} slots"
    as_wanted = (
        "Who must pass passes, who must fail fails." if expected else "Nobody must pass here, or fail."
    )
    verdict = f"NOT as it must be: {'; '.join(wrong)}." if wrong else as_wanted
    remarks = (
        f"{record.system.users} users, {arrival:g} Mb of arrivals per slot and user, "
        f"{traces}, the same for all; candidates without noise, no learning. The actor was trained at "
        f"{record.training.arrival:g}.",
        verdict,
    )
    return Findings(
        tables=(
            verdict_table(study, expected),
            ratios_table(study),
            loops_table(study),
            gates_table(study),
            cost_table(sizes, times),
        ),
        drawings=tuple(_drawings(study, record, expected, sizes)),
        figures={
            "as_it_must_be": not wrong,
            "arrival": arrival,
            "traces": frames[0],
            "frames": frames[1],
            "results": {r.name: _figures(r) for r in (study.reference, *study.results)},
            "sizes": {name: asdict(size) for name, size in sizes.items()},
            "times": {name: asdict(took) for name, took in times.items()},
        },
        remarks=remarks,
        title=f"Closed loop at {arrival:g} Mb per slot and user",
    )


def surprises(study: Study, expected: Mapping[str, bool]) -> list[str]:
    """Contenders that pass or fail against what they must, in words."""
    words = {True: "passes but must fail", False: "fails but must pass"}
    return [
        f"{r.name} {words[r.passed]}" for r in study.results if r.passed != expected.get(r.name, r.passed)
    ]


def _drawings(
    study: Study, record: Record, expected: Mapping[str, bool], sizes: Mapping[str, FileSize]
) -> list[Drawing]:
    series = [Series(study.reference.name, study.reference.curves)]
    for result in study.results:
        if result.name in sizes:
            series.append(Series(result.name, result.curves))
        elif expected.get(result.name) is False:
            series.append(Series(result.name, result.curves, control=True))
    drawn = draw_curves(record.system, series)
    if record.losses:
        drawn.append(draw_cost(record.losses, LearnerSettings.every))
    points = [
        Point(r.name, sizes[r.name].file / _KIB, 100 * r.states.exact)
        for r in (study.reference, *study.results)
        if r.name in sizes and r.states is not None
    ]
    if len(points) > 1:
        title = "What a smaller file costs in decisions"
        drawn.append(draw_trade(points, "size", title, "file, KiB", "decisions like FP32's, %"))
    return drawn


def _figures(result: Result) -> JsonValue:
    states = result.states
    return {
        "passed": result.passed if result.gates else None,
        "gates": {gate.name: gate.measured for gate in result.gates},
        "failed": [gate.name for gate in result.gates if not gate.passed],
        "same_decisions": result.same_decisions,
        "loops": {str(count): asdict(loop) for count, loop in result.loops.items()},
        "states": None
        if states is None
        else {
            "objective": {str(k): v for k, v in states.objective.items()},
            "objective_low": {str(k): v for k, v in states.objective_low.items()},
            "bits": states.bits,
            "exact": states.exact,
            "f1": states.f1,
        },
    }
