"""What every observer does: see batches in a stream, then say which range to quantize."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from quant.errors import BadInput
from quant.layout import aminmax, row_shape
from quant.spec import QuantSpec

__all__ = ["Observer"]


class Observer(ABC):
    """Collects what is needed to choose a range, in memory that does not grow with the number of batches.

    Except where an observer says otherwise, its result depends only on the values seen, bit for bit: not on
    how they were cut into batches, nor on their order.

    The layout (granularity, axis, group size) is fixed at construction; the rest of the format may differ
    when :meth:`range` is asked, so that one calibration serves several targets.

    Attributes:
        defaults: the options and their values where a spec says nothing.
        spec: the spec it was made for.
        name: the observed tensor's name, for messages.
        options: ``defaults`` updated by ``spec.observer_options``.
        shape: shape of the ranges, None until data was seen.
    """

    defaults: ClassVar[Mapping[str, float]] = {}

    def __init__(self, spec: QuantSpec, name: str = "tensor") -> None:
        unknown = sorted(set(spec.observer_options) - set(self.defaults))
        if unknown:
            allowed = ", ".join(sorted(self.defaults)) or "none"
            raise BadInput(
                f"observer '{spec.observer}' (for '{name}') has no option {', '.join(unknown)}; "
                f"allowed: {allowed}"
            )
        self.spec = spec
        self.name = name
        self.options: dict[str, float] = {**self.defaults, **spec.observer_options}
        self.shape: torch.Size | None = None
        self._ranges: dict[str, tuple[Tensor, Tensor]] = {}

    def update(self, x: Tensor) -> None:
        """Take in one batch.

        Args:
            x: any shape that has the spec's axis; the number of channels (the whole shape, for groups) must
                stay the same from call to call.

        Raises:
            BadInput: ``x`` is empty, holds NaN or infinity, or has other channels than before.
        """
        x = x.detach().float()
        shape = self._checked_shape(x)
        low, high = aminmax(x, self.spec, self.name)
        self._check_finite(x, low, high)
        self._update(x, low, high)
        self.shape = shape
        self._ranges.clear()

    def range(self, spec: QuantSpec | None = None) -> tuple[Tensor, Tensor]:
        """The bounds to quantize with.

        Args:
            spec: the format to serve, of the layout observed; by default the observer's own.

        Returns:
            Low and high, float64, each of the shape of the scales.

        Raises:
            BadInput: nothing was seen, or ``spec`` has another layout.
        """
        spec = spec or self.spec
        if self.shape is None:
            raise BadInput(f"'{self.name}' has seen no data; calibrate first")
        mine, other = _layout(self.spec), _layout(spec)
        if mine != other:
            raise BadInput(
                f"'{self.name}' was observed {mine} and cannot give ranges {other}; calibrate again"
            )
        key = spec.model_dump_json()
        if key not in self._ranges:  # a search takes long, and every lowering freezes again
            low, high = self._range(spec)
            self._ranges[key] = low.double(), high.double()
        return self._ranges[key]

    @property
    def wide_channels(self) -> tuple[int, ...]:
        """Channels that need codes of 16 bits (:class:`quant.qparams.QParams`), by default none."""
        return ()

    def state(self) -> dict[str, Tensor]:
        """What was seen, as contiguous CPU tensors; empty when nothing was."""
        if self.shape is None:
            return {}
        tensors = {"shape": torch.tensor(self.shape, dtype=torch.int64)} | self._tensors()
        return {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly where :meth:`state` was taken.

        Raises:
            BadInput: a tensor is missing or the layout differs, so ``state`` is of another observer.
        """
        if not state:
            return
        try:
            shape = torch.Size(state["shape"].tolist())
            if (len(shape) == 0) != (self.spec.granularity == "per_tensor"):
                raise BadInput(
                    f"the saved observation of '{self.name}' has ranges of shape {list(shape)}, which is not "
                    f"{_layout(self.spec)}; calibrate again"
                )
            self._load(state)
            self.shape = shape
            self._ranges.clear()
        except KeyError as error:
            raise BadInput(
                f"the saved observation of '{self.name}' has no {error} and is not of observer "
                f"'{self.spec.observer}'; calibrate again"
            ) from error

    def _checked_shape(self, x: Tensor) -> torch.Size:
        if x.numel() == 0:
            raise BadInput(
                f"'{self.name}' is empty (shape {list(x.shape)}); there is nothing to calibrate on"
            )
        shape = row_shape(x, self.spec, self.name)
        if self.shape is not None and shape != self.shape:
            raise BadInput(
                f"'{self.name}' had ranges of shape {list(self.shape)} and now needs {list(shape)}; one "
                "range per channel or group needs the same channels in every batch"
            )
        return shape

    def _check_finite(self, x: Tensor, low: Tensor, high: Tensor) -> None:
        if bool((torch.isfinite(low) & torch.isfinite(high)).all()):
            return
        bad = int((~torch.isfinite(x)).sum())
        raise BadInput(
            f"the values of '{self.name}' hold NaN or infinity ({bad} of {x.numel()}); check the "
            "checkpoint and the preprocessing, or run this layer in float32"
        )

    @abstractmethod
    def _update(self, x: Tensor, low: Tensor, high: Tensor) -> None:
        """Take in a float32 batch with its exact finite bounds (of the shape of the scales)."""

    @abstractmethod
    def _range(self, spec: QuantSpec) -> tuple[Tensor, Tensor]:
        """The bounds, once something was seen."""

    @abstractmethod
    def _tensors(self) -> dict[str, Tensor]:
        """What :meth:`state` saves beside the shape."""

    @abstractmethod
    def _load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`_tensors`."""


def _layout(spec: QuantSpec) -> str:
    if spec.granularity == "per_channel":
        return f"per_channel (axis {spec.axis})"
    if spec.granularity == "per_group":
        return f"per_group (group_size {spec.group_size})"
    return spec.granularity
