"""The analyses that a configuration may name.

An analysis reads what a run left (its summary, its models, its calibrations) and makes tables and drawings of
it. To add one, decorate a function::

    @register_analysis("my_analysis", MyOptions)
    def my_analysis(line: Line, options: MyOptions, progress: Progress) -> Findings: ...

``MyOptions`` is a frozen pydantic model of the keys that stand beside ``name`` and ``label`` in the
configuration.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

from benchmarks.analyses.findings import Findings
from deploy.pipeline.line import Line
from quant.errors import BadInput
from quant.progress import Progress
from quant.words import near

__all__ = ["Analysis", "get_analysis", "register_analysis"]

OptionsT = TypeVar("OptionsT", bound=BaseModel)


@dataclass(frozen=True)
class Analysis:
    """One analysis.

    Attributes:
        options: the model of its options.
        run: does it; behind ``bench``, so that the run's summary is there.
    """

    options: type[BaseModel]
    run: Callable[[Line, Any, Progress], Findings]


_ANALYSES: dict[str, Analysis] = {}


def register_analysis(
    name: str, options: type[OptionsT]
) -> Callable[
    [Callable[[Line, OptionsT, Progress], Findings]], Callable[[Line, OptionsT, Progress], Findings]
]:
    """Make the decorated function the analysis of that name."""

    def register(
        run: Callable[[Line, OptionsT, Progress], Findings],
    ) -> Callable[[Line, OptionsT, Progress], Findings]:
        _ANALYSES[name] = Analysis(options, run)
        return run

    return register


def get_analysis(name: str) -> Analysis:
    """The analysis of a name.

    Raises:
        BadInput: there is none.
    """
    if name not in _ANALYSES:
        raise BadInput(
            f"no analysis '{name}'{near(name, _ANALYSES)}; known: {', '.join(sorted(_ANALYSES))}; those of "
            "your own are registered by a module that `plugins` names"
        )
    return _ANALYSES[name]
