"""What the audit predicts for ARM, beside the graph that ARM's runtime executed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from deploy.audit import AuditReport, audit_model

__all__ = ["Audited", "audit_arm", "differences"]


@dataclass(frozen=True)
class Audited:
    """The audit of one model, twice.

    Attributes:
        predicted: of the graph that the audit makes on this machine, emulating ARM's decisions.
        executed: of the graph that ARM's runtime saved.
        differences: where the two differ, a line each.
        unlike_profile: operators of that graph that ARM's profile counts differently, a line each.
    """

    predicted: AuditReport
    executed: AuditReport
    differences: tuple[str, ...]
    unlike_profile: tuple[str, ...]


def audit_arm(model: Path, graph: Path, operators: Mapping[str, int]) -> Audited:
    """Audit a model by what ARM's runtime did.

    Args:
        model: the lowered file.
        graph: what ARM's session saved as the graph it executes.
        operators: how often each operator ran, by ARM's profile.
    """
    predicted, executed = audit_model(model, "ort-arm64"), audit_model(model, "ort-arm64", graph=graph)
    nodes = Counter(str(node.op_type) for node in onnx.load(str(graph), load_external_data=False).graph.node)
    counts = tuple(_lines(nodes, Counter(operators), "in the graph", "in the profile"))
    return Audited(predicted, executed, differences(predicted, executed), counts)


def differences(predicted: AuditReport, executed: AuditReport) -> tuple[str, ...]:
    """Multiplications, and Q and DQ nodes that are executed, of which only one of two audits knows."""
    return tuple(_lines(_found(predicted), _found(executed), "predicted", "executed"))


def _found(report: AuditReport) -> Counter[str]:
    kinds = {True: "integers", False: "float"}
    found = Counter(
        f"{one.module}: {one.op}, {one.macs} MACs in {kinds[one.integer]}" for one in report.multiplications
    )
    return found + Counter(f"{one.module}: {one.op}, {one.category}" for one in report.leftovers)


def _lines(one: Counter[str], other: Counter[str], first: str, second: str) -> list[str]:
    return [
        f"{what}: {one[what]} {first}, {other[what]} {second}"
        for what in sorted(one | other)
        if one[what] != other[what]
    ]
