"""Name the operators of a model that compute on integers by standard operators, because no kernel does."""

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import ModelProto

from deploy.audit.graph import GraphIndex, module_name

__all__ = ["DOMAIN", "Simulated", "find_simulated"]

DOMAIN = "octavo"
"""Domain of the exported functions."""


@dataclass(frozen=True)
class Simulated:
    """A function of the model.

    Attributes:
        op: its name.
        modules: the PyTorch modules that call it, one for each call.
    """

    op: str
    modules: tuple[str, ...]

    def __str__(self) -> str:
        """Name, number of calls and the first modules."""
        names = list(dict.fromkeys(self.modules))
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        return f"{len(self.modules)} {self.op} ({', '.join(names[:2])}{more})"


def find_simulated(model: ModelProto) -> tuple[Simulated, ...]:
    """List the calls of exported functions in a model as it was written, by function."""
    graph = GraphIndex(model)
    known = {f.name for f in model.functions if f.domain == DOMAIN}

    def found() -> Iterator[Simulated]:
        for name in sorted(known):
            nodes = [n for n in model.graph.node if n.domain == DOMAIN and n.op_type == name]
            if nodes:
                yield Simulated(name, tuple(module_name(node, graph) for node in nodes))

    return tuple(found())
