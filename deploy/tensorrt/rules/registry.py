"""The registry of rules; a new rule is a function decorated with ``@rule("name")``.

Rules are those of TensorRT's own headers (NvInfer.h, IQuantizeLayer and IDequantizeLayer) and parser; what
breaks them is refused, or silently read otherwise, by the builder of TensorRT-RTX 1.7.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from deploy.tensorrt.rules.graph import Graph, layer_of
from quant.errors import Unsupported

__all__ = ["RULES", "Check", "Violation", "check_model", "rule", "violations"]


@dataclass(frozen=True)
class Violation:
    """A rule that a node breaks.

    Attributes:
        rule: its short name.
        layer: the module of the model, as far as the node's name says.
        node: the node's own name.
        reason: what stands in the model.
        remedy: what to change.
    """

    rule: str
    layer: str
    node: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"'{self.layer}': {self.reason}; {self.remedy}"


Check = Callable[[Graph, NodeProto], tuple[str, str] | None]

RULES: dict[str, Check] = {}
"""Rule name to check; a check returns ``(reason, remedy)`` or None where a node keeps the rule."""


def rule(name: str) -> Callable[[Check], Check]:
    """Register a check under a name."""

    def register(check: Check) -> Check:
        RULES[name] = check
        return check

    return register


def violations(model: ModelProto) -> Iterator[Violation]:
    """Every rule that every node breaks, in the order of the file."""
    graph = Graph(model)
    for node in graph.nodes:
        for name, check in RULES.items():
            broken = check(graph, node)
            if broken is not None:
                yield Violation(name, layer_of(node), str(node.name), *broken)


def check_model(model: ModelProto, what: str) -> None:
    """Refuse a model that TensorRT would refuse, or read otherwise than it is meant.

    Args:
        model: what is to be built.
        what: what messages call it, such as its path.

    Raises:
        Unsupported: naming the first layer, the rule it breaks and the remedy, and how many more there are.
    """
    found = list(violations(model))
    if found:
        more = f" (and {len(found) - 1} more places)" if len(found) > 1 else ""
        raise Unsupported(f"{what}: TensorRT does not take {found[0]}{more}")
