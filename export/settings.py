"""Settings of the export."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["OLDEST_OPSET", "ExportSettings", "WeightOnlyAccuracy"]

OLDEST_OPSET = 20
NEWEST_OPSET = 23

WeightOnlyAccuracy = Literal["float", "int8"]


class ExportSettings(BaseModel):
    """How models are written.

    Attributes:
        opset: ONNX operator set. Gelu is one operator from 20 on; float16 scales need 19. A recipe with 4-bit
            or grouped weights, which came with 21, is written in 21 where this is less.
        simplify: run onnxsim, under the contract of :mod:`export.simplify`.
        dynamic_batch: leave the batch axis open.
        weight_only_accuracy: how ONNX Runtime multiplies the activations where only the weight is quantized:
            in ``float``, or in ``int8``, quantized on the fly for each row and block. The latter is what ONNX
            Runtime does unasked; without VNNI it is faster for single rows, not for whole images.
        parity_images: how many images the parity check compares.
        parity: ``fail`` refuses a model that does not compute what was calibrated, ``warn`` only reports it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    opset: int = OLDEST_OPSET
    simplify: bool = True
    dynamic_batch: bool = True
    weight_only_accuracy: WeightOnlyAccuracy = "float"
    parity_images: int = Field(default=32, ge=1)
    parity: Literal["fail", "warn"] = "fail"

    @field_validator("opset")
    @classmethod
    def _known_opset(cls, value: int) -> int:
        if not OLDEST_OPSET <= value <= NEWEST_OPSET:
            raise ValueError(
                f"opset {value} cannot be exported: {OLDEST_OPSET} (Gelu as one operator) to {NEWEST_OPSET} "
                "are supported"
            )
        return value
