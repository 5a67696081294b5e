"""The fake-quant layer, the same for weights and activations."""

from dataclasses import replace
from enum import Enum
from itertools import pairwise

import torch
from torch import Tensor, nn

from quant.errors import BadInput, InternalError
from quant.kernels import fake_quantize
from quant.learned import learned_fake_quantize
from quant.observers import Observer, make_observer
from quant.qparams import QParams, qparams_from_range
from quant.spec import QuantSpec

__all__ = ["FakeQuantState", "FakeQuantize"]


class FakeQuantState(Enum):
    """What a fake-quant layer does with the values that pass."""

    OFF = "off"
    OBSERVING = "observing"
    QUANTIZING = "quantizing"


class FakeQuantize(nn.Module):
    """Watches a tensor, then rounds it to its integer format.

    It starts OFF. The usual life is ``observe()``, some batches, ``freeze()``, ``quantize()``.

    Attributes:
        spec: the format asked for.
        name: which tensor this is, such as ``blocks.0.attn.qkv.input``.
        state: what :meth:`forward` does.
        observer: what has been seen.
        channels: the range of every channel, where :meth:`watch_channels` asked for it.
        ignored: channels left out of the range.
        scale: buffer, None before the first :meth:`freeze` or :meth:`set_qparams`.
        zero_point: buffer, likewise.
        qmin: lowest code of the frozen format.
        qmax: highest code of the frozen format.
    """

    scale: Tensor | None
    zero_point: Tensor | None

    def __init__(self, spec: QuantSpec, name: str) -> None:
        super().__init__()
        self.spec = spec
        self.name = name
        self.state = FakeQuantState.OFF
        self.observer = make_observer(spec, name)
        self.qmin, self.qmax = spec.qmin, spec.qmax
        self.axis: int | None = None
        self.group_size: int | None = None
        self.scheme = spec.scheme
        self.wide: tuple[int, ...] = ()
        self.channels: Observer | None = None
        self.ignored: tuple[int, ...] = ()
        self._grid: QParams | None = None
        self._bounds: tuple[Tensor, Tensor] | None = None
        self.register_buffer("scale", None)
        self.register_buffer("zero_point", None)

    def watch_channels(self, axis: int) -> None:
        """Also observe the range of every channel along ``axis``, whatever the granularity of the scales."""
        spec = QuantSpec(granularity="per_channel", axis=axis)
        self.channels = make_observer(spec, self.name)

    def ignore_channels(self, channels: tuple[int, ...]) -> None:
        """Leave these channels out of the range: quantizing clips them (something else carries them).

        Needs :meth:`watch_channels`, whose axis is meant. Formats with more than one scale are not touched:
        there a channel does not spoil the scale of all others.
        """
        if self.channels is None:
            raise InternalError(f"'{self.name}' does not watch channels, so it cannot leave any out")
        self.ignored = channels

    def observe(self) -> None:
        """From now on show the values to the observer and pass them on unchanged."""
        self.state = FakeQuantState.OBSERVING

    def quantize(self) -> None:
        """From now on quantize."""
        self.state = FakeQuantState.QUANTIZING

    def off(self) -> None:
        """From now on pass the values on unchanged."""
        self.state = FakeQuantState.OFF

    @property
    def qparams(self) -> QParams:
        """The frozen parameters.

        Raises:
            BadInput: there are none yet.
        """
        if self.scale is None or self.zero_point is None:
            raise BadInput(f"'{self.name}' has no scale yet; calibrate first")
        return QParams(
            self.scale,
            self.zero_point,
            self.qmin,
            self.qmax,
            self.axis,
            self.group_size,
            self.scheme,
            self.wide,
        )

    def freeze(self, spec_override: QuantSpec | None = None) -> QParams:
        """Fix scale and zero point from what the observer has seen.

        Args:
            spec_override: another format for the same observation, such as symmetric signed codes where
                the recipe asked for affine unsigned ones. Its layout must be the observed one; its observer
                fields are not used.

        Returns:
            The parameters, which are also kept.

        Raises:
            BadInput: nothing was observed, or the layout differs.
        """
        spec = spec_override or self.spec
        if self._grid is not None:
            qparams = _regrid(self._grid, self.spec, spec)
        else:
            low, high = self._bounds or self.observer.range(spec)
            qparams = qparams_from_range(low, high, spec, self.name)
            qparams = replace(qparams, wide=self.observer.wide_channels)
        self.set_qparams(qparams)
        return qparams

    def fix_grid(self, grid: QParams | None) -> None:
        """From now on :meth:`freeze` uses this scale and zero point of the format :attr:`spec`; or not."""
        self._grid = grid

    def fix_range(self, low: Tensor, high: Tensor) -> None:
        """From now on :meth:`freeze` uses this range instead of the observed one, of the scales' shape."""
        self._bounds = (low, high)

    @property
    def range(self) -> tuple[Tensor, Tensor]:
        """The range that :meth:`freeze` uses, low and high, float64, of the scales' shape."""
        return self._bounds or self.observer.range(self.spec)

    def forget(self) -> None:
        """Drop what the observer has seen."""
        self.observer = make_observer(self.spec, self.name)

    def set_qparams(self, qparams: QParams) -> None:
        """Fix scale and zero point to given ones."""
        self.scale, self.zero_point = qparams.scale, qparams.zero_point
        self.qmin, self.qmax = qparams.qmin, qparams.qmax
        self.axis, self.group_size, self.scheme = qparams.axis, qparams.group_size, qparams.scheme
        self.wide = qparams.wide

    def forward(self, x: Tensor) -> Tensor:
        """``x`` observed, quantized or as it is, by :attr:`state`.

        Args:
            x: float32, any shape that has the spec's axis.

        Returns:
            The shape of ``x``.

        Raises:
            BadInput: quantizing without parameters, or observing NaN or infinity.
        """
        if self.state is FakeQuantState.OBSERVING:
            self._observe(x)
        elif self.state is FakeQuantState.QUANTIZING:
            qparams = self.qparams
            learned = qparams.scale.requires_grad
            return (learned_fake_quantize if learned else fake_quantize)(x, qparams, self.name)
        return x

    def _observe(self, x: Tensor) -> None:
        if self.channels is not None:
            self.channels.update(x)
            if self.ignored and self.spec.granularity == "per_tensor":
                axis = self.channels.spec.axis
                ends = pairwise([-1, *sorted(self.ignored), x.shape[axis]])
                x = torch.cat([x.narrow(axis, a + 1, b - a - 1) for a, b in ends], dim=axis)
        self.observer.update(x)

    def extra_repr(self) -> str:
        """Name, format and state, for ``print(model)``."""
        sign = "s" if self.spec.signed else "u"
        return f"{self.name}, {sign}{self.spec.bits} {self.spec.granularity}, {self.state.value}"


def _regrid(grid: QParams, old: QuantSpec, new: QuantSpec) -> QParams:
    """The same range in a format of another width: ``scale · (qmax_old / qmax_new)``.

    A grid with more codes than its format has (simulation only) stays as it is.
    """
    if new.bits == old.bits or grid.qmax > old.qmax:
        return grid
    if not (old.symmetric and new.symmetric and old.signed == new.signed):
        raise InternalError("a fixed grid can only be written at another width if it is symmetric")
    scale = grid.scale * (old.qmax / new.qmax)
    return replace(grid, scale=scale, qmin=new.qmin, qmax=new.qmax)
