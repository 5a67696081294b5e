"""An ONNX graph as the rules see it."""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

__all__ = ["QDQ", "Graph", "layer_of"]

QDQ = ("QuantizeLinear", "DequantizeLinear")


class Graph:
    """The main graph of a model.

    Attributes:
        model: it.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model

    @property
    def nodes(self) -> list[NodeProto]:
        """In the order of the file."""
        return list(self.model.graph.node)

    @cached_property
    def opset(self) -> int:
        """Of the standard operators; 0 where the model names none."""
        return next((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), 0)

    @cached_property
    def tensors(self) -> dict[str, TensorProto]:
        """Constants by name: initializers and Constant nodes."""
        found = {tensor.name: tensor for tensor in self.model.graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                found.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
        return found

    @cached_property
    def writer(self) -> dict[str, NodeProto]:
        """Tensor to the node that computes it."""
        return {name: node for node in self.nodes for name in node.output}

    @cached_property
    def readers(self) -> dict[str, list[NodeProto]]:
        """Tensor to the nodes that read it."""
        found: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                found.setdefault(name, []).append(node)
        return found

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """The values of a constant; None where ``name`` is not one."""
        tensor = self.tensors.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is known when the engine is built: a constant, at most cast or moved."""
        node = self.writer.get(name)
        while (
            name not in self.tensors
            and node is not None
            and node.op_type in ("Cast", "Identity", "Transpose")
        ):
            name = node.input[0]
            node = self.writer.get(name)
        return name in self.tensors

    def code_type(self, node: NodeProto) -> int | None:
        """The type of the codes at a Q or DQ, a ``TensorProto.DataType``; None where none is told."""
        if len(node.input) > 2 and node.input[2] in self.tensors:
            return int(self.tensors[node.input[2]].data_type)
        if node.op_type == "DequantizeLinear":
            if node.input[0] in self.tensors:
                return int(self.tensors[node.input[0]].data_type)
            writer = self.writer.get(node.input[0])
            return None if writer is None or writer.op_type not in QDQ else self.code_type(writer)
        given = next((a.i for a in node.attribute if a.name == "output_dtype"), 0)
        return int(given) or int(TensorProto.UINT8)  # the operator's own default


def layer_of(node: NodeProto) -> str:
    """The module a node came from, by its name: ``blocks.0.mlp.fc2/MatMul`` is of ``blocks.0.mlp.fc2``."""
    name = str(node.name)
    return name.rpartition("/")[0] or name or f"{node.op_type} that writes '{node.output[0]}'"
