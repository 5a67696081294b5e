"""One weight layer of a calibrated graph while a walk stands in front of it."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, fx
from torch.nn import functional

from quant.fake_quantize import FakeQuantize
from quant.graph.nodes import constant_name, is_call
from quant.kernels import fake_quantize
from quant.placement import Site
from quant.qparams import QParams
from quant.tuning.parameters import TunedParameters

__all__ = ["Layer"]

aten = torch.ops.aten


class Layer:
    """A linear layer or convolution with a quantized weight, and what it reads.

    All tensors of activations are lists, one entry per batch; batches together are the tuning images.

    Attributes:
        name: such as ``blocks.7.mlp.fc2``.
        kind: ``linear``, ``patch_conv`` or ``conv``.
        weight_site: the site of its weight.
        input_site: the site of its input, None where the input stays float.
        input_shared: whether other layers read through the same input quantizer.
        inputs: what it reads in the graph quantized so far, in front of the input quantizer; linear layers
            [..., I], convolutions [B, I, H, W].
        float_inputs: what it reads in the float reference.
        float_outputs: what it returns there.
        clipped_units: input channels that a float side path carries; their weights are zero and stay zero.
    """

    def __init__(
        self,
        name: str,
        kind: Literal["linear", "patch_conv", "conv"],
        node: fx.Node,
        weight_site: Site,
        input_site: Site | None,
        parameters: TunedParameters,
        inputs: list[Tensor],
        float_inputs: list[Tensor],
        float_outputs: list[Tensor],
        clipped_units: tuple[int, ...] = (),
    ) -> None:
        self.name = name
        self.kind = kind
        self.weight_site = weight_site
        self.input_site = input_site
        self.input_shared = input_site is not None and len(input_site.node.users) > 1
        self.inputs = inputs
        self.float_inputs = float_inputs
        self.float_outputs = float_outputs
        self.clipped_units = clipped_units
        self._node = node
        self._parameters = parameters

    @property
    def weight(self) -> Tensor:
        """The float weight as tuned so far: [O, I], or [O, I / groups, kh, kw]."""
        return self._parameters.get(str(constant_name(self.weight_site.node.args[0])))

    @property
    def bias(self) -> Tensor | None:
        """The bias [O], None where the layer has none."""
        name = constant_name(self._bias_node)
        return None if name is None else self._parameters.get(name)

    @property
    def grid(self) -> QParams:
        """Scale and zero point of the weight in force."""
        return self.weight_site.quantizer.qparams

    @property
    def groups(self) -> int:
        """Groups of a convolution, 1 for a linear layer."""
        return 1 if self.kind == "linear" else int(self._conv_arguments()[3])

    @property
    def quantized_weight(self) -> Tensor:
        """The weight rounded to its grid."""
        return fake_quantize(self.weight, self.grid, self.weight_site.name)

    def set_weight(self, value: Tensor, grid: QParams | None = None) -> None:
        """Replace the weight; None lets its observer choose a new grid, else the given one is kept."""
        value = value.clone()
        if self.clipped_units:
            value[:, list(self.clipped_units)] = 0.0
        self._parameters.set_weight(self.weight_site, value, grid)

    def set_grid(self, grid: QParams) -> None:
        """Keep the weight, replace its scale and zero point."""
        self._parameters.set_grid(self.weight_site, grid)

    def set_bias(self, value: Tensor) -> None:
        """Replace the bias [O]; the layer must have one."""
        self._parameters.set(str(constant_name(self._bias_node)), value)

    def set_input_range(self, low: Tensor, high: Tensor) -> None:
        """Replace the range of the input quantizer; the layer must have one."""
        assert self.input_site is not None
        self._parameters.set_range(self.input_site, low, high)

    @property
    def input_quantizer(self) -> FakeQuantize | None:
        """The input's fake-quant layer."""
        return None if self.input_site is None else self.input_site.quantizer

    @torch.no_grad()
    def quantized_inputs(self) -> Iterator[Tensor]:
        """:attr:`inputs` behind the input quantizer, batch by batch."""
        for x in self.inputs:
            yield x if self.input_site is None else self.input_site.quantizer(x)

    def output(self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """The layer applied to ``x`` as it is.

        Args:
            x: an input, already quantized where that is wanted.
            weight: instead of :attr:`quantized_weight`.
            bias: instead of :attr:`bias`.
        """
        weight = self.quantized_weight if weight is None else weight
        bias = self.bias if bias is None else bias
        if self.kind == "linear":
            return functional.linear(x, weight, bias)
        stride, padding, dilation, groups = self._conv_arguments()
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @torch.no_grad()
    def outputs(self) -> Iterator[Tensor]:
        """What the quantized layer returns, batch by batch."""
        weight = self.quantized_weight
        for x in self.quantized_inputs():
            yield self.output(x, weight)

    def rows(self, x: Tensor) -> Tensor:
        """An input as the rows that meet the weight's rows.

        Returns:
            [groups, n, K] with ``weight.reshape(groups, O / groups, K)``: tokens for a linear layer, patches
            for a convolution.
        """
        if self.kind == "linear":
            return x.reshape(1, -1, x.shape[-1])
        stride, padding, dilation, groups = self._conv_arguments()
        kernel = self.weight.shape[2:]
        patches = functional.unfold(x, tuple(kernel), dilation, padding, stride)  # [B, I kh kw, P]
        depth = patches.shape[1] // groups
        return patches.reshape(len(x), groups, depth, -1).permute(1, 0, 3, 2).reshape(groups, -1, depth)

    def channels_last(self, y: Tensor) -> Tensor:
        """An output as [n, O]."""
        return (y if self.kind == "linear" else y.movedim(1, -1)).reshape(-1, len(self.weight))

    @property
    def _bias_node(self) -> Any:
        arguments = [*self._node.args, None]
        return arguments[2]

    def _conv_arguments(self) -> tuple[Any, Any, Any, Any]:
        assert is_call(self._node, aten.conv2d.default)
        given: list[Any] = list(self._node.args[3:])
        stride, padding, dilation, groups = given + [[1, 1], [0, 0], [1, 1], 1][len(given) :]
        return stride, padding, dilation, groups
