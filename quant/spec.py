"""``QuantSpec``: the number format of one tensor and how its range is found.

It is read from a recipe, so it is validated and frozen; tensors live in :class:`quant.qparams.QParams`.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["FP8_LARGEST", "Granularity", "QuantSpec", "Scheme"]

Granularity = Literal["per_tensor", "per_channel", "per_group"]
Scheme = Literal["uniform", "log2", "fp8_e4m3"]

FP8_LARGEST = 448
"""The largest finite number of E4M3: 1.75 * 2^8. It has no infinity, and its codes above stand for NaN.
(Micikevicius et al. 2022, "FP8 formats for deep learning", section 3.)"""


class QuantSpec(BaseModel):
    """How a float tensor is written as small integers.

    The scales' shape follows from the granularity, for a tensor ``x``:

    - ``per_tensor``: ``[]``, one scale.
    - ``per_channel``: ``[x.shape[axis]]``, one scale per index of ``axis`` (negative counts from the end).
    - ``per_group``: ``[*x.shape[:-1], x.shape[-1] / group_size]``: the LAST axis is cut into runs of
      ``group_size`` neighbours, and each run of each leading index has its scale; ``axis`` is not used.
      A linear weight ``[O, K]`` gets ``[O, K / group_size]``. This is ONNX QuantizeLinear's blocked form
      (opset 21) with ``axis=-1`` and ``block_size=group_size``.

    The defaults are those of an activation; :meth:`weight` gives those of a weight.

    Attributes:
        bits: width of a code, 2 to 8; 8 for ``fp8_e4m3``.
        signed: codes start below zero (int8) or at zero (uint8).
        symmetric: the range is ``[-amax, amax]`` and zero has the middle code: 0 when signed, and
            ``2^(bits-1)`` when unsigned, which is the same numbers with each code shifted by a constant.
        granularity: how many scales there are, see above.
        axis: the channel axis of ``per_channel``.
        group_size: length of a group, for ``per_group`` only.
        scheme: ``uniform`` is ``scale * (code - zero_point)``; ``log2`` is ``scale * 2^-code`` for values
            >= 0 such as a softmax (unsigned; simulated only, no QDQ operator expresses it); ``fp8_e4m3`` is
            ``scale * c`` with c an 8-bit float of 4 exponent and 3 mantissa bits, at most 448 in magnitude
            (signed and symmetric; ONNX type FLOAT8E4M3FN).
        observer: name of a registered observer, see :mod:`quant.observers`.
        observer_options: numbers for the observer, such as ``{"alpha": 0.9999}``.
        narrow: leave out the lowest code of a symmetric format, so that codes reach as far down as up:
            ``[-127, 127]`` for 8 signed bits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bits: int = Field(default=8, ge=2, le=8)
    signed: bool = False
    symmetric: bool = False
    granularity: Granularity = "per_tensor"
    axis: int = 0
    group_size: int | None = Field(default=None, ge=1)
    scheme: Scheme = "uniform"
    observer: str = "minmax"
    observer_options: dict[str, float] = Field(default_factory=dict)
    narrow: bool = False

    @classmethod
    def activation(cls, bits: int = 8, **fields: Any) -> Self:
        """Unsigned, affine, one scale per tensor; ``fields`` override."""
        return cls.model_validate({"bits": bits} | fields)

    @classmethod
    def weight(cls, bits: int = 8, **fields: Any) -> Self:
        """Signed, symmetric, narrow, one scale per output channel (axis 0); ``fields`` override.

        >>> spec = QuantSpec.weight(4)
        >>> spec.qmin, spec.qmax
        (-7, 7)
        """
        default = {"signed": True, "symmetric": True, "narrow": True, "granularity": "per_channel"}
        return cls.model_validate({"bits": bits} | default | fields)

    @property
    def qmin(self) -> int:
        """The lowest code; of ``fp8_e4m3`` the lowest number, -448."""
        if self.scheme == "fp8_e4m3":
            return -FP8_LARGEST
        lowest = -(1 << (self.bits - 1)) if self.signed else 0
        return lowest + int(self.narrow)

    @property
    def qmax(self) -> int:
        """The highest code; of ``fp8_e4m3`` the highest number, 448."""
        if self.scheme == "fp8_e4m3":
            return FP8_LARGEST
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def symmetric_zero_point(self) -> int:
        """The fixed code of zero in a symmetric format."""
        return 0 if self.signed else 1 << (self.bits - 1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.granularity == "per_group") != (self.group_size is not None):
            raise ValueError(
                "group_size and granularity go together: give group_size (such as 32) with granularity "
                f"'per_group' and leave it out otherwise; got granularity '{self.granularity}', "
                f"group_size {self.group_size}"
            )
        if self.narrow and not self.symmetric:
            raise ValueError(
                "narrow: true is allowed only with symmetric: true; an affine range uses all codes"
            )
        if self.scheme == "log2" and (self.signed or self.symmetric):
            raise ValueError(
                "scheme 'log2' writes values >= 0: it is allowed only unsigned and not symmetric"
            )
        if self.scheme == "fp8_e4m3" and (not (self.signed and self.symmetric) or self.bits != 8):
            raise ValueError(
                "scheme 'fp8_e4m3' is a signed 8-bit float: give bits: 8, signed: true and symmetric: true"
            )
        if self.scheme == "fp8_e4m3" and self.narrow:
            raise ValueError("scheme 'fp8_e4m3' reaches as far down as up already: leave narrow out")
        return self
