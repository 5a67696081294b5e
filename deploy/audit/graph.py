"""A read-only index of an ONNX graph: who makes a tensor, who reads it, what is constant."""

import ast
from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["LAYOUT_OPS", "GraphIndex", "attribute", "module_name", "single_module"]

LAYOUT_OPS = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Split", "Gather"}
    | {"Expand", "Tile", "ReorderInput", "ReorderOutput", "Concat", "Pad"}
)
"""Operators that move values without computing on them, so that integers stay integers across them."""

_SCOPES_KEY = "pkg.torch.onnx.name_scopes"


class GraphIndex:
    """Look-ups over one graph (control-flow bodies are not looked into).

    Args:
        model: the model whose main graph is indexed.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.graph: GraphProto = model.graph

    @cached_property
    def nodes(self) -> Mapping[str, NodeProto]:
        """Node by name."""
        return {n.name: n for n in self.graph.node}

    @cached_property
    def producer(self) -> Mapping[str, NodeProto]:
        """The node that makes a tensor, by tensor name."""
        return {o: n for n in self.graph.node for o in n.output if o}

    @cached_property
    def _consumers(self) -> Mapping[str, list[NodeProto]]:
        found: dict[str, list[NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                found.setdefault(name, []).append(node)
        return found

    def consumers(self, tensor: str) -> list[NodeProto]:
        """The nodes that read a tensor; a node that reads it twice stands there twice."""
        return self._consumers.get(tensor, [])

    @cached_property
    def initializers(self) -> Mapping[str, TensorProto]:
        """Stored tensors by name, those of Constant nodes included."""
        found = {t.name: t for t in self.graph.initializer}
        for node in self.graph.node:
            value = attribute(node, "value")
            if node.op_type == "Constant" and isinstance(value, TensorProto):
                found[node.output[0]] = value
        return found

    @cached_property
    def outputs(self) -> frozenset[str]:
        """Names of the graph's outputs."""
        return frozenset(o.name for o in self.graph.output)

    @cached_property
    def _constants(self) -> frozenset[str]:
        known = set(self.initializers)
        for node in self.graph.node:  # ONNX graphs are sorted topologically
            if node.op_type.startswith("Random") or attribute(node, "body") is not None:
                continue
            if all(not i or i in known for i in node.input) and (node.input or node.op_type == "Constant"):
                known.update(node.output)
        return frozenset(known)

    def is_constant(self, tensor: str) -> bool:
        """Whether the tensor's value does not depend on the model's inputs."""
        return tensor in self._constants

    def array(self, tensor: str) -> NDArray[np.generic] | None:
        """The value of a stored tensor; None for a computed one."""
        stored = self.initializers.get(tensor)
        return None if stored is None else numpy_helper.to_array(stored)

    def past_layout(self, tensor: str) -> tuple[str, NodeProto | None]:
        """Walk upstream over the layout operators.

        Returns:
            The first tensor that is not made by one, and its producer (None for an input or a stored tensor).
        """
        node = self.producer.get(tensor)
        while node is not None and node.op_type in LAYOUT_OPS and not self.is_constant(tensor):
            tensor = node.input[0]
            if node.op_type == "Concat":
                tensor = next(i for i in node.input if not self.is_constant(i))
            node = self.producer.get(tensor)
        return tensor, node

    def readers(self, tensor: str) -> Iterator[NodeProto]:
        """Yield the computing nodes that read a tensor, through the layout operators."""
        for node in self.consumers(tensor):
            if node.op_type in LAYOUT_OPS:
                for output in node.output:
                    yield from self.readers(output)
            else:
                yield node


def attribute(node: NodeProto, name: str, default: object = None) -> object:
    """The value of a node's attribute, or ``default``."""
    found: AttributeProto | None = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def module_name(node: NodeProto, graph: GraphIndex) -> str:
    """The PyTorch module an ONNX node comes from, as well as its file tells.

    Read from a name with a path (``blocks.7.mlp.fc2/MatMul``, ``/blocks/blocks.7/mlp/fc2/MatMul``), from the
    name of its stored weight (``….weight…``), or from the metadata of ``torch.onnx``
    (``pkg.torch.onnx.name_scopes``; a folded BatchNorm has overwritten it); else the node's own name.
    """
    path = [p for p in node.name.split("/")[:-1] if p]
    if path:
        return single_module(path)
    for name in node.input:
        stem, dot, _ = _stored_behind(name, graph).partition(".weight")
        if dot:
            return stem
    for entry in node.metadata_props:
        if entry.key == _SCOPES_KEY:
            scopes = _scopes(entry.value)
            if len(scopes) > 1 and scopes[-2]:
                return scopes[-2]
    return str(node.name)


def single_module(path: list[str]) -> str:
    """Join the parts of a path; one may repeat its parent: ``[blocks, blocks.0]`` is ``blocks.0``."""
    parts: list[str] = []
    for part in path:
        if parts and part.startswith(parts[-1] + "."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)


def _stored_behind(tensor: str, graph: GraphIndex) -> str:
    """Name of the stored tensor that a constant is computed from; empty for an activation."""
    while tensor not in graph.initializers:
        node = graph.producer.get(tensor)
        if node is None or not node.input or not graph.is_constant(tensor):
            return ""
        tensor = node.input[0]
    return tensor


def _scopes(text: str) -> list[str]:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return []
    return [str(v) for v in value] if isinstance(value, list) else []
