"""What an audit found."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from deploy.audit.leftovers import Leftover
from deploy.audit.macs import Kind
from deploy.audit.rules import Finding
from deploy.audit.saturation import SaturationRisk
from deploy.audit.simulated import Simulated
from deploy.cpu import CpuInfo

__all__ = ["AuditReport", "Multiplication"]


@dataclass(frozen=True)
class Multiplication:
    """An executed node that multiplies.

    Attributes:
        module: the PyTorch module it comes from, as well as names tell.
        node: the executed node's name.
        op: its operator.
        original: the operator of the original model; empty where it was not found.
        kind: what is multiplied.
        macs: multiply-accumulates at batch 1.
        integer: whether an integer kernel does it.
        intended: for a float one, whether the recipe put Q/DQ on one of its factors.
        findings: for a float one, the rules it broke; empty when no known rule explains it.
    """

    module: str
    node: str
    op: str
    original: str
    kind: Kind
    macs: int
    integer: bool
    intended: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class AuditReport:
    """Integer coverage of a model as ONNX Runtime executes it.

    Attributes:
        model: the file audited.
        target: the runtime whose decisions are audited.
        runtime: ONNX Runtime's version; of an engine, the library with its version.
        cpu: the CPU the audit ran on.
        inputs: shapes of the synthetic input.
        multiplications: every node that multiplies, in execution order.
        leftovers: every Q and DQ node that is executed.
        saturation: layers that may saturate on CPUs without VNNI.
        notes: what else the reader should know.
        simulated: functions that compute on integers by standard operators, because no kernel does.
    """

    model: str
    target: str
    runtime: str
    cpu: CpuInfo
    inputs: dict[str, tuple[int, ...]]
    multiplications: tuple[Multiplication, ...]
    leftovers: tuple[Leftover, ...]
    saturation: tuple[SaturationRisk, ...]
    notes: tuple[str, ...]
    simulated: tuple[Simulated, ...] = ()

    def macs(self, *kinds: Kind, integer: bool | None = None) -> int:
        """Sum the multiply-accumulates of some kinds (all, if none is named), in integer kernels or not."""
        return sum(
            m.macs
            for m in self.multiplications
            if (not kinds or m.kind in kinds) and integer in (None, m.integer)
        )

    @property
    def weight_share(self) -> float:
        """Share (0 to 1) of the linear and convolution MACs that run in integer kernels."""
        return _share(
            self.macs(Kind.LINEAR, Kind.CONV, integer=True),
            self.macs(Kind.LINEAR, Kind.CONV),
        )

    @property
    def total_share(self) -> float:
        """Share (0 to 1) of all MACs, attention included, that run in integer kernels."""
        return _share(self.macs(integer=True), self.macs())

    @property
    def unfused(self) -> tuple[Multiplication, ...]:
        """Float multiplications that the recipe meant to quantize."""
        return tuple(m for m in self.multiplications if not m.integer and m.intended)

    @property
    def weight_only(self) -> tuple[Multiplication, ...]:
        """Float multiplications by weights that are stored in few bits."""
        return tuple(m for m in self._not_meant if any(f.rule == "weight-only" for f in m.findings))

    @property
    def left_float(self) -> tuple[Multiplication, ...]:
        """Float multiplications that the recipe never meant to quantize."""
        return tuple(m for m in self._not_meant if all(f.rule != "weight-only" for f in m.findings))

    @property
    def _not_meant(self) -> tuple[Multiplication, ...]:
        return tuple(m for m in self.multiplications if not m.integer and not m.intended)

    @property
    def bad_leftovers(self) -> tuple[Leftover, ...]:
        """Q and DQ nodes that should not have to run."""
        return tuple(item for item in self.leftovers if item.bad)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values, with the headline numbers first."""
        return {
            "weight_share": self.weight_share,
            "total_share": self.total_share,
            "unfused": len(self.unfused),
            "bad_leftovers": dict(Counter(str(item.category) for item in self.bad_leftovers)),
            **_plain(asdict(self)),
        }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _plain(value: Any) -> Any:
    """Replace tuples by lists and enumerations by their text."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, str) else value
