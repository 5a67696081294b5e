"""The stages of a run in order, for the command line."""

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.analyses.stage import analysis_steps, profile_steps
from benchmarks.measure_run import bench_steps
from deploy.pipeline import audit, export, lower, quantize
from deploy.pipeline.line import Line, open_run
from deploy.pipeline.workspace import Step
from quant.errors import BadInput

__all__ = ["STAGES", "do_stage", "go_on"]

STAGES: Mapping[str, Callable[[Line], list[Step]]] = {
    "quantize": quantize.steps,
    "export": export.steps,
    "lower": lower.steps,
    "audit": audit.steps,
    "bench": bench_steps,
    "profile": profile_steps,
    "analyse": analysis_steps,
}
"""Stage to what gives its steps."""

_VERBS = {
    "quantize": "octavo quantize CONFIG.yaml --out {run}",
    "export": "octavo export {run}",
    "lower": "octavo lower {run}",
    "bench": "octavo bench {run}",
}


def do_stage(line: Line, stage: str, say: Callable[[str], None], force: bool = False) -> None:
    """Do those steps of a stage that are not done.

    Args:
        line: the run.
        stage: a key of :data:`STAGES`.
        say: told what happens.
        force: do all of them.
    """
    for step in STAGES[stage](line):
        line.workspace.do(step, force, say)


def go_on(root: Path, stage: str, say: Callable[[str], None], force: bool = False) -> None:
    """Do one stage of a run with what the stages before it left in its folder.

    Those need their own verbs; only the audit, which has none for a run, is done along the way. Arguments as
    in :func:`do_stage`.

    Raises:
        BadInput: an earlier stage is not done, or its files were changed since.
    """
    line = open_run(root)
    for earlier in list(STAGES)[: list(STAGES).index(stage)]:
        if earlier not in _VERBS:
            do_stage(line, earlier, say, force)
            continue
        for step in STAGES[earlier](line):
            if not line.workspace.is_intact(step):
                raise BadInput(
                    f"{root}: '{step.name}' is not done, or its files were changed; run "
                    f"`{_VERBS[earlier].format(run=root)}` first"
                )
    do_stage(line, stage, say, force)
