"""Capture a model as an ATen graph and put it into the form that quantization works on."""

from quant.graph.capture import capture
from quant.graph.nodes import layer_name, module_of, tensor_of

__all__ = ["capture", "layer_name", "module_of", "tensor_of"]
