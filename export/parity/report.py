"""What the parity check found, and what it requires."""

from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = [
    "ABOVE_QUANTIZATION_DB",
    "BELOW_FLIP_FLOOR_DB",
    "DYNAMIC_LIMITS",
    "HALF_FP8_LIMITS",
    "HALF_LIMITS",
    "LIMITS",
    "EndToEnd",
    "LayerParity",
    "Limits",
    "ParityReport",
]


@dataclass(frozen=True)
class Limits:
    """How much a layer may differ.

    Attributes:
        share: largest share of its codes, 0 to 1.
        distance: largest difference, in codes.
        equal: outputs nearer than this, in codes, count as equal.
    """

    share: float
    distance: int
    equal: float


LIMITS = Limits(share=1e-3, distance=1, equal=0.1)
HALF_LIMITS = Limits(share=0.5, distance=2, equal=0.5)
"""For a float16 remainder: every dequantized factor has 11 bits, so sums that nearly cancel move by codes."""

HALF_FP8_LIMITS = Limits(share=0.5, distance=8, equal=0.5)
"""The same for FP8, where the float16 rounding of an input can flip a code, too: near the top of E4M3 one
step is 32 of 448, nine times that of int8."""

DYNAMIC_LIMITS = Limits(share=1.0, distance=8, equal=0.5)
"""For kernels that quantize their activations to 8 bits on the fly, which the fake-quant model does not do:
that is of the size of a few codes of 8 bits over the result's range."""

FEW = 2
"""So many codes of a layer may differ however few it has: in a head with 80 outputs one is 1.25 %."""

ABOVE_QUANTIZATION_DB = 8.0
BELOW_FLIP_FLOOR_DB = 3.0
"""End to end, the outputs must agree to 8 dB above the quantization error itself, or as well as the
fake-quant model agrees with itself (within 3 dB) when as many codes flip as the layer check allows. Two
correct implementations cannot be held to more: each rounding flip is a whole step that later layers spread.
"""


@dataclass(frozen=True)
class LayerParity:
    """One layer fed the same input in both worlds: floats to its quantizer, and then the same codes.

    Attributes:
        layer: its name.
        mode: ``off`` or ``all`` optimizations.
        input_differ: share of the input's codes that differ, 0 to 1.
        input_most: largest difference, in codes.
        inputs: number of input codes compared.
        output_differ: share of the outputs that differ by more than ``limits.equal`` codes: those of its
            output's quantizer, else 8 bits over the torch output's range.
        output_most: largest difference, in those codes, rounded.
        outputs: number of outputs compared.
        limits: what is allowed.
        far: share of the input's codes or of the outputs, whichever is more, that are more than one code off.
    """

    layer: str
    mode: str
    input_differ: float
    input_most: int
    inputs: int
    output_differ: float
    output_most: int
    outputs: int
    limits: Limits = LIMITS
    far: float = 0.0

    @property
    def ok(self) -> bool:
        """Within the limits."""
        return self._within(self.input_differ, self.input_most, self.inputs) and self._within(
            self.output_differ, self.output_most, self.outputs
        )

    def _within(self, differ: float, most: int, count: int) -> bool:
        return round(differ * count) <= max(self.limits.share * count, FEW) and most <= self.limits.distance


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
            the layer check allows (float16 remainder: when what it reads changes by float16's rounding), and
            rows that the runtime quantizes on the fly change by half a code.
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

    def passes(self, mode: EndToEnd) -> bool:
        """Whether the outputs agree as well as they must; NaN fails."""
        return bool(mode.parity_db >= self.floor_db(mode))

    @property
    def failure(self) -> str | None:
        """Why the model is refused, or None."""
        fault = self.first_fault
        if fault is not None:
            return (
                f"the exported model does not compute what was calibrated, first in layer '{fault.layer}' "
                f"(optimizations {fault.mode}): {fault.input_differ:.3%} of its input codes differ, by up to "
                f"{fault.input_most}; {fault.output_differ:.3%} of its outputs, by up to {fault.output_most} "
                f"(allowed: {fault.limits.share:.1%}, by {fault.limits.distance})"
            )
        for mode in self.end_to_end:
            if not self.passes(mode):
                return (
                    f"the exported model (optimizations {mode.mode}) agrees with the fake-quant model to "
                    f"only {mode.parity_db:.1f} dB; required: {self.floor_db(mode):.1f} dB"
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
                "codes_beyond_one_max": max((x.far for x in self.layers), default=0.0),
                "within_limits": self.first_fault is None,
            }
        }
        for mode in self.end_to_end:
            figures = asdict(mode)
            del figures["mode"]
            figures["required_db"] = self.floor_db(mode)
            figures["flip_floor_db"] = self.flip_floor_db
            figures["within_limits"] = self.passes(mode)
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
        most = max(layers["input_codes_distance_max"], layers["output_codes_distance_max"])
        console.print(
            f"{layers['compared']} layers from identical inputs: at most "
            f"{layers['input_codes_differ_max']:.4%} of input codes and "
            f"{layers['output_codes_differ_max']:.4%} of outputs differ, by at most {most}. {self.note}"
        )
