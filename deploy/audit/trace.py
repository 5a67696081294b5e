"""Find the operator of the original model that an executed node stands for.

ONNX Runtime's fusions derive the new node's name from the old one's (``fc1/MatMul/MatMulAddFusion``,
``conv_token_2``) or its output's (``relu_nchwc``), and keep the names of output tensors. Both trails are
followed, names first.
"""

import re
from collections import deque

from onnx import NodeProto

from deploy.audit.graph import GraphIndex
from deploy.audit.macs import MAC_OPS, OPERANDS

__all__ = ["filter_shape", "find_original", "origin"]

_ADDED_TO_NAME = re.compile(r"(_token_\d+|_quant|_q|_dq|_post_dq|_pre_q|/.*Fusion.*|\s\+\s.*)$")
_ADDED_TO_OUTPUT = re.compile(r"_nchwc(_token_\d+)?$")
_CONVS = frozenset({"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "QLinearConv", "ConvInteger"})
_ANY_DISTANCE = 12  # operators walked upstream from an output before giving up


def find_original(node: NodeProto, executed: GraphIndex, original: GraphIndex) -> NodeProto | None:
    """Find the original operator that does the multiplications of an executed node.

    Args:
        node: an executed node whose operator is in `MAC_OPS`.
        executed: the graph it is in.
        original: the graph as written.
    """
    named = original.nodes.get(_plain(str(node.name), original))
    if named is not None and named.op_type in MAC_OPS:
        return named
    tensors = [_ADDED_TO_OUTPUT.sub("", node.name)] if _ADDED_TO_OUTPUT.search(node.name) else []
    tensors += _outputs_in(original, node, executed)
    for tensor in tensors:
        found = _upstream(tensor, original, convolution=node.op_type in _CONVS)
        if found is not None:
            return found
    return None


def origin(node: NodeProto, executed: GraphIndex, original: GraphIndex) -> NodeProto | None:
    """Find the original node, of any operator, that an executed node has its name or its output from."""
    named = original.nodes.get(_plain(str(node.name), original))
    if named is not None:
        return named
    return next((original.producer[t] for t in _outputs_in(original, node, executed)), None)


def filter_shape(node: NodeProto | None, original: GraphIndex) -> tuple[int, ...]:
    """Shape of a convolution's filter as the model was written; empty where it is not known."""
    if node is None or node.op_type not in _CONVS:
        return ()
    tensor = node.input[OPERANDS[node.op_type][1]]
    while tensor not in original.initializers:
        producer = original.producer.get(tensor)
        if producer is None or producer.op_type not in ("DequantizeLinear", "QuantizeLinear", "Identity"):
            return ()
        tensor = producer.input[0]
    return tuple(original.initializers[tensor].dims)


def _plain(name: str, original: GraphIndex) -> str:
    while name not in original.nodes:
        shorter = _ADDED_TO_NAME.sub("", name)
        if shorter == name:
            break
        name = shorter
    return name


def _outputs_in(original: GraphIndex, node: NodeProto, executed: GraphIndex) -> list[str]:
    """Names of the node's outputs in the original, or of the layout operators behind it."""
    found: list[str] = []
    queue = deque([(node, 0)])
    while queue and not found:
        current, distance = queue.popleft()
        found = [o for o in current.output if o in original.producer]
        if distance < _ANY_DISTANCE:
            followers = [c for o in current.output for c in executed.consumers(o)]
            queue.extend((f, distance + 1) for f in followers if _moves_only(f))
    return found


def _moves_only(node: NodeProto) -> bool:
    return node.op_type in ("Reshape", "Transpose", "ReorderOutput", "ReorderInput", "Cast", "Identity")


def _upstream(tensor: str, original: GraphIndex, convolution: bool) -> NodeProto | None:
    queue = deque([(tensor, 0)])
    seen: set[str] = set()
    while queue:
        name, distance = queue.popleft()
        node = original.producer.get(name)
        if node is None or name in seen or distance > _ANY_DISTANCE:
            continue
        seen.add(name)
        if node.op_type in MAC_OPS:
            if (node.op_type in _CONVS) == convolution:
                return node
            continue
        queue.extend((i, distance + 1) for i in node.input if i and not original.is_constant(i))
    return None
