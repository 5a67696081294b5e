"""What the parity check found, and what it requires."""

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = [
    "ABOVE_QUANTIZATION_DB",
    "BELOW_FLIP_FLOOR_DB",
    "HALF_LIMITS",
    "LIMITS",
    "Limits",
    "EndToEnd",
    "LayerParity",
    "ParityReport",
]


@dataclass(frozen=True)
class Limits:
    """How much a layer may differ.

    Attributes:
        share: largest share of its codes, 0 to 1.
        distance: largest difference, in codes.
    """

    share: float
    distance: int


LIMITS = Limits(share=1e-3, distance=1)
HALF_LIMITS = Limits(share=0.5, distance=2)
"""For a float16 remainder: every dequantized factor carries 11 bits, so sums that nearly cancel move by codes."""

ABOVE_QUANTIZATION_DB = 8.0
BELOW_FLIP_FLOOR_DB = 3.0
"""End to end, the outputs must agree to 8 dB above the quantization error itself, or as well as the fake-quant
model agrees with itself (within 3 dB) when as many codes flip as the layer check allows. Two correct
implementations cannot be held to more: each rounding flip is a whole step, and later layers spread it.
"""


@dataclass(frozen=True)
class LayerParity:
    """One layer fed the same input in both worlds: floats to its quantizer, and then the same codes.

    Attributes:
        layer: its name.
        mode: ``off`` or ``all`` optimizations.
        input_differ: share of the input's codes that differ, 0 to 1.
        input_most: largest difference, in codes.
        output_differ: share of the outputs that differ when both are written in codes: those of its output's
            quantizer, else 8 bits over the torch output's range.
        output_most: largest difference, in those codes.
        limits: what is allowed.
    """

    layer: str
    mode: str
    input_differ: float
    input_most: int
    output_differ: float
    output_most: int
    limits: Limits = LIMITS

    @property
    def ok(self) -> bool:
        """Within the limits."""
        differ, most = max(self.input_differ, self.output_differ), max(self.input_most, self.output_most)
        return differ <= self.limits.share and most <= self.limits.distance


@dataclass(frozen=True)
class EndToEnd:
    """Logits of the exported model against those of the fake-quant model.

    Attributes:
        mode: ``off`` or ``all`` optimizations.
        parity_db: SQNR of the exported model, the fake-quant model being the reference.
        quantization_db: SQNR of the exported model, the float model being the reference.
        agreement: share of images with the same top-1 as the fake-quant model.
    """

    mode: str
    parity_db: float
    quantization_db: float
    agreement: float


@dataclass(frozen=True)
class ParityReport:
    """The whole finding.

    Attributes:
        target: the target checked.
        images: images compared end to end.
        layer_images: images compared layer by layer.
        flip_floor_db: SQNR of the fake-quant model against itself, when each quantizer flips as many codes as
            the layer check allows (float16 remainder: when what it reads changes by float16's rounding).
        layers: in the order of execution, for each mode.
        end_to_end: for each mode.
        note: what could not be run here, and why.
    """

    target: str
    images: int
    layer_images: int
    flip_floor_db: float
    layers: list[LayerParity] = field(default_factory=list)
    end_to_end: list[EndToEnd] = field(default_factory=list)
    note: str = ""

    @property
    def first_fault(self) -> LayerParity | None:
        """The first layer, in the order of execution, that differs too much."""
        return next((layer for layer in self.layers if not layer.ok), None)

    def floor_db(self, mode: EndToEnd) -> float:
        """What :attr:`EndToEnd.parity_db` must reach."""
        return min(mode.quantization_db + ABOVE_QUANTIZATION_DB, self.flip_floor_db - BELOW_FLIP_FLOOR_DB)

    @property
    def failure(self) -> str | None:
        """Why the model is refused, or None."""
        fault = self.first_fault
        where = ""
        if fault is not None:
            where = (
                f"layer '{fault.layer}' (optimizations {fault.mode}): {fault.input_differ:.3%} of its input codes "
                f"differ, by up to {fault.input_most}; {fault.output_differ:.3%} of its outputs, by up to "
                f"{fault.output_most} (allowed: {fault.limits.share:.1%}, by {fault.limits.distance})"
            )
            return f"the exported model does not compute what was calibrated, first in {where}"
        for mode in self.end_to_end:
            if mode.parity_db < self.floor_db(mode):
                return (
                    f"the exported model (optimizations {mode.mode}) agrees with the fake-quant model to only "
                    f"{mode.parity_db:.1f} dB; required: {self.floor_db(mode):.1f} dB"
                )
        return None

    def to_dict(self) -> dict[str, Any]:
        """Figures by stage, for JSON and the report."""
        stages: dict[str, Any] = {
            "layers": {
                "compared": len({layer.layer for layer in self.layers}),
                "input_codes_differ_max": max((x.input_differ for x in self.layers), default=0.0),
                "input_codes_distance_max": max((x.input_most for x in self.layers), default=0),
                "output_codes_differ_max": max((x.output_differ for x in self.layers), default=0.0),
                "output_codes_distance_max": max((x.output_most for x in self.layers), default=0),
            }
        }
        for mode in self.end_to_end:
            figures = asdict(mode)
            del figures["mode"]
            figures["required_db"] = self.floor_db(mode)
            figures["flip_floor_db"] = self.flip_floor_db
            stages[f"end to end, optimizations {mode.mode}"] = figures
        return stages

    def render(self, console: Console) -> None:
        """Print the figures."""
        table = Table(title=f"Parity of {self.target}: fake-quant model against ONNX Runtime")
        for column in ("optimizations", "parity dB", "required", "INT8 against FP32 dB", "same top-1"):
            table.add_column(column, justify="right")
        for mode in self.end_to_end:
            table.add_row(
                mode.mode,
                f"{mode.parity_db:.1f}",
                f"{self.floor_db(mode):.1f}",
                f"{mode.quantization_db:.1f}",
                f"{mode.agreement:.1%}",
            )
        console.print(table)
        layers = self.to_dict()["layers"]
        console.print(
            f"{layers['compared']} layers from identical inputs: at most {layers['input_codes_differ_max']:.4%} of "
            f"input codes and {layers['output_codes_differ_max']:.4%} of outputs differ, by at most "
            f"{max(layers['input_codes_distance_max'], layers['output_codes_distance_max'])}. "
            f"{self.note}"
        )
