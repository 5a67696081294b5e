"""What a graph edit is: it checks what it needs, edits, checks what it promised, and says what it did."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import onnx_ir as ir

from quant.errors import InternalError

__all__ = ["Pass", "PassNote", "run_passes"]


@dataclass(frozen=True)
class PassNote:
    """One remark of a pass.

    Attributes:
        graph_pass: its name.
        node: the node or module concerned, '' for the whole graph.
        applied: whether something changed there.
        text: what was done, or why not.
    """

    graph_pass: str
    node: str
    applied: bool
    text: str


class Pass(Protocol):
    """An edit of an ONNX graph, in place."""

    @property
    def name(self) -> str:
        """For notes and errors."""
        ...

    def requires(self, model: ir.Model) -> None:
        """Check what the edit needs.

        Raises:
            Unsupported: the model cannot be edited, naming the node.
            InternalError: an earlier pass did not do its work.
        """
        ...

    def run(self, model: ir.Model) -> list[PassNote]:
        """Edit the graph and say what was done, and why not where it was not."""
        ...

    def ensures(self, model: ir.Model) -> None:
        """Check the promise.

        Raises:
            InternalError: it does not hold.
        """
        ...


def run_passes(model: ir.Model, passes: Sequence[Pass]) -> list[PassNote]:
    """Run passes in order, each between its two checks.

    Raises:
        Unsupported: a pass cannot serve this model.
        InternalError: a promise does not hold; the message names the pass.
    """
    notes: list[PassNote] = []
    for graph_pass in passes:
        graph_pass.requires(model)
        notes += graph_pass.run(model)
        try:
            graph_pass.ensures(model)
        except InternalError as error:
            raise InternalError(f"pass '{graph_pass.name}' broke its promise: {error}") from error
    return notes
