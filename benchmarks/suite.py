"""Beginning the runs that a configuration names, one or a suite, and doing them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.analyses.stage import check_analyses
from benchmarks.stages import STAGES, do_stage
from deploy.pipeline.config import RunConfig, config_of, moved_config, read_yaml
from deploy.pipeline.line import CONFIG, Line
from deploy.pipeline.suite import is_suite, suite_of
from quant.errors import BadInput

__all__ = ["begin", "begin_run", "do_runs"]


def begin(config: Path, out: Path, only: Sequence[str] = ()) -> list[Line]:
    """Check the runs of a configuration, then make their folders.

    Args:
        config: of one run, or of a suite.
        out: the folder of the run, or of the suite's runs.
        only: of a suite, the runs that are wanted; all when empty.

    Raises:
        BadInput: something is wrong with one of them; nothing is written then.
    """
    data = read_yaml(config, RunConfig)
    if not is_suite(data):
        if only:
            raise BadInput(f"{config}: is one run; --only is for suites, which have `runs`")
        return [begin_run(config, out)]
    parts = suite_of(config, only)
    lines = [_checked(part, config, out / name, f"run '{name}': ") for name, part in parts.items()]
    for line, part in zip(lines, parts.values(), strict=True):
        line.workspace.write(CONFIG, moved_config(part, config, line.workspace.root))
    return lines


def begin_run(config: Path, out: Path) -> Line:
    """Check the one run of a configuration, then make its folder.

    Raises:
        BadInput: something is wrong with it; nothing is written then.
    """
    data = read_yaml(config, RunConfig)
    if is_suite(data):
        raise BadInput(f"{config}: is a suite of several runs; that is for `octavo run`")
    line = _checked(data, config, out)
    line.workspace.write(CONFIG, moved_config(data, config, out))
    return line


def do_runs(lines: Sequence[Line], say: Callable[[str], None]) -> None:
    """Do all stages of all runs, one run after the other."""
    for line in lines:
        if len(lines) > 1:
            say(f"== {line.workspace.root.name}")
        for stage in STAGES:
            do_stage(line, stage, say)
        line.forget()


def _checked(data: Mapping[str, Any], config: Path, root: Path, where: str = "") -> Line:
    try:
        line = Line(config_of(data, config), root)
        line.check()
        check_analyses(line)
    except BadInput as error:
        raise BadInput(f"{where}{error}") from error
    return line
