"""The tables of a study."""

from collections.abc import Mapping

from benchmarks.analyses.findings import Cell, Table
from examples.mec.gates import Gate
from examples.mec.study import Study
from examples.mec.timing import DecisionTime, FileSize

__all__ = ["cost_table", "gates_table", "loops_table", "ratios_table", "verdict_table"]


def loops_table(study: Study) -> Table:
    """What each policy's simulations were like."""
    rows: list[tuple[Cell, ...]] = []
    for result in (study.reference, *study.results):
        for count, loop in sorted(result.loops.items(), reverse=True):
            whole, late = loop.whole, loop.late
            rows.append(
                (
                    *(result.name, count if result.states else None),
                    *(whole.rate, 100 * whole.served, whole.weighted_rate),
                    *(late.backlog, late.slope, late.debt, whole.energy, whole.worst_energy),
                    100 * late.offloading,
                )
            )
    columns = (
        *("policy", "candidates K", "rate, Mbps", "of arrivals, %", "weighted rate, Mbps"),
        *("backlog, Mb per user", "its slope, Mb per slot", "energy queue, mJ", "energy, J per slot"),
        *("of the worst user", "offloading, %"),
    )
    note = (
        "Rates and energies of all slots; backlog, energy queue and offloading of the second half. All "
        "policies met the same channels and arrivals, from empty queues, without noise in the candidates and "
        "without learning."
    )
    return Table("closed_loop", "Policies in the closed loop", columns, tuple(rows), note)


def ratios_table(study: Study) -> Table:
    """Each judged contender against the float actor."""
    rows: list[tuple[Cell, ...]] = []
    for result in (study.reference, *study.results):
        answers = result.states
        if answers is None:
            continue
        most = max(result.loops)
        loop, single = result.loops[most], result.loops.get(1)
        rows.append(
            (
                *(result.name, loop.rate, loop.rate_difference.mean, loop.rate_difference.error),
                *(loop.weighted_rate, loop.queue, loop.queue_difference.mean, loop.queue_difference.error),
                *(None if single is None else single.rate, None if single is None else single.queue),
                *(answers.objective[1], answers.objective_low[1]),
                *(answers.objective[most], answers.objective_low[most]),
                *(100 * answers.bits, 100 * answers.exact, answers.f1),
                None if result.same_decisions is None else 100 * result.same_decisions,
            )
        )
    columns = (
        *("actor", "rate ratio", "rate difference, Mbps", "its standard error", "weighted rate ratio"),
        *(
            "queue ratio",
            "queue difference, Mb",
            "its standard error",
            "rate ratio, K = 1",
            "queue ratio, K = 1",
        ),
        *(
            "objective ratio, K = 1",
            "its 1st percentile",
            "objective ratio, K = N",
            "its 1st percentile, K = N",
        ),
        *("same bits, %", "same decision, %", "F1 of offloading", "file decides as simulated, %"),
    )
    note = (
        "Against the float actor with the same K; differences are paired by trace. Objective ratios and "
        f"decisions: on {len(study.states)} states that the float actor came to. Same bits mean little: "
        "nobody offloading agrees in nine of ten, too."
    )
    return Table("against_fp32", "Actors against the float actor", columns, tuple(rows), note)


def gates_table(study: Study) -> Table:
    """Every gate of every judged contender."""
    rows: list[tuple[Cell, ...]] = [
        (result.name, gate.name, _limit(gate), gate.measured, "yes" if gate.passed else "no")
        for result in study.results
        for gate in result.gates
    ]
    return Table("gates", "Gates", ("actor", "gate", "limit", "measured", "passed"), tuple(rows))


def verdict_table(study: Study, expected: Mapping[str, bool]) -> Table:
    """Who passes, and whether that is as it must be.

    Args:
        study: the results.
        expected: by contender, whether all gates must hold; those that are not named may do either.
    """
    rows: list[tuple[Cell, ...]] = []
    for result in study.results:
        if result.gates:
            failed = [gate.name for gate in result.gates if not gate.passed]
            must = {True: "pass", False: "fail", None: "–"}[expected.get(result.name)]
            rows.append((result.name, must, "passes" if result.passed else "fails", ", ".join(failed) or "–"))
    return Table("verdict", "Verdict", ("actor", "must", "result", "gates that fail"), tuple(rows))


def cost_table(sizes: Mapping[str, FileSize], times: Mapping[str, DecisionTime]) -> Table:
    """What the files take, and how long decisions do where that was measured."""
    rows: list[tuple[Cell, ...]] = []
    for name, size in sizes.items():
        took = times.get(name)
        cells: tuple[Cell, ...] = (None,) * 4
        if took is not None:
            cells = (took.actor, took.actor_p99, took.decision, took.decision_p99)
        rows.append((name, size.file, size.weights, *cells))
    columns = (
        *("actor", "file, bytes", "its tensors, bytes", "actor, µs", "actor, 99th percentile"),
        *("whole decision, µs", "whole decision, 99th percentile"),
    )
    note = (
        "ONNX Runtime, one thread, one state at a time; the whole decision adds features, K = N candidates "
        "and the critic."
    )
    return Table("cost", "Bytes, and time of a decision", columns, tuple(rows), note)


def _limit(gate: Gate) -> str:
    return f"{'≥' if gate.kind == 'at least' else '≤'} {gate.limit:g}"
