"""What TensorRT takes, checked before it sees a model; importing this package registers every rule."""

from deploy.tensorrt.rules import formats, operators
from deploy.tensorrt.rules.graph import Graph
from deploy.tensorrt.rules.registry import RULES, Violation, check_model, rule, violations

__all__ = ["RULES", "Graph", "Violation", "check_model", "formats", "operators", "rule", "violations"]
