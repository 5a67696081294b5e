"""Put the integer layers in place of the marked float operators, once the fake-quant layers stand."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import fx, nn

from quant.graph.nodes import SHAPE_ONLY, is_call, module_of
from quant.integer.marks import LAYER_NORM, SOFTMAX
from quant.integer.modules import IntegerLayerNorm, LogIntSoftmax, ShiftMatMul
from quant.methods.registry import MethodNote
from quant.placement import Site

__all__ = ["attach_integer_layers"]

aten = torch.ops.aten


def attach_integer_layers(graph: fx.GraphModule, sites: Sequence[Site]) -> list[MethodNote]:
    """Change every marked node into a call of an integer layer, in place; nodes keep their names.

    Returns:
        What was done at each marked node, or why it stays float.
    """
    by_node = {site.node: site for site in sites}
    notes = []
    for node in list(graph.graph.nodes):
        if LAYER_NORM in node.meta:
            notes.append(_layer_norm(graph, node, by_node))
        elif SOFTMAX in node.meta:
            notes += _softmax(graph, node, by_node)
    if notes:
        graph.graph.lint()
        graph.recompile()
    return notes


def _layer_norm(graph: fx.GraphModule, node: fx.Node, sites: Mapping[fx.Node, Site]) -> MethodNote:
    layer = module_of(node) or node.name
    source = _site_of(node.args[0], sites)
    results = {site.name: site for site in _sites_behind(node, sites)}
    reason = None
    if source is None:
        reason = "what it reads is not quantized"
    elif len(results) != 1 or any(site.spec.granularity != "per_tensor" for site in results.values()):
        reason = f"its result needs one quantizer with one scale, and has {len(results)}"
    if source is None or reason is not None:
        return MethodNote("integer_layer_norm", layer, False, reason or "")
    (result,) = results.values()
    eps = float(node.args[4]) if len(node.args) > 4 else 1e-5  # type: ignore[arg-type]
    bits = int(node.meta[LAYER_NORM])
    module = IntegerLayerNorm(layer, eps, bits, source.quantizer, result.quantizer)
    _call(graph, node, f"{layer}.integer_layer_norm", module, (node.args[0], *node.args[2:4]))
    return MethodNote("integer_layer_norm", layer, True, f"on integers, simulated; {bits}-bit multipliers")


def _softmax(graph: fx.GraphModule, node: fx.Node, sites: Mapping[fx.Node, Site]) -> Iterator[MethodNote]:
    name = "log_int_softmax"
    layer = module_of(node) or node.name
    source = _site_of(node.args[0], sites)
    if source is None or source.spec.granularity != "per_tensor" or source.spec.scheme != "uniform":
        yield MethodNote(name, layer, False, "the scores need one uniform scale per tensor")
        return
    bits, fraction_bits = node.meta[SOFTMAX]
    softmax = LogIntSoftmax(layer, bits, fraction_bits, source.quantizer)
    _call(graph, node, f"{layer}.log_int_softmax", softmax, (node.args[0],))
    yield MethodNote(name, layer, True, f"on integers, simulated; {bits}-bit powers of two")
    for product in list(_products(node)):
        values = _site_of(product.args[1], sites)
        if values is None or values.spec.granularity != "per_tensor" or values.spec.scheme != "uniform":
            yield MethodNote(name, layer, False, "the product with V stays float: V has no uniform scale")
            continue
        module = ShiftMatMul(layer, softmax, values.quantizer)
        _call(graph, product, f"{layer}.shift_matmul", module, product.args[:2])


def _call(
    graph: fx.GraphModule, node: fx.Node, path: str, module: nn.Module, args: tuple[object, ...]
) -> None:
    """Make ``node`` call ``module``; it keeps its name and its readers."""
    count = 1
    while _exists(graph, free := path if count == 1 else f"{path}_{count}"):
        count += 1
    graph.add_submodule(free, module)
    node.op, node.target = "call_module", free
    node.args, node.kwargs = args, {}  # type: ignore[assignment]


def _exists(graph: fx.GraphModule, path: str) -> bool:
    return any(name == path for name, _ in graph.named_modules())


def _site_of(node: object, sites: Mapping[fx.Node, Site]) -> Site | None:
    return sites.get(node) if isinstance(node, fx.Node) else None


def _sites_behind(node: fx.Node, sites: Mapping[fx.Node, Site]) -> Iterator[Site]:
    """The quantizers that read a value, also where it is moved around on the way."""
    for reader in node.users:
        if reader in sites:
            yield sites[reader]
        elif is_call(reader, *SHAPE_ONLY):
            yield from _sites_behind(reader, sites)


def _products(node: fx.Node) -> Iterator[fx.Node]:
    """The matrix products of which a value, moved around or not, is the first factor."""
    for reader in node.users:
        if is_call(reader, aten.matmul.default, aten.bmm.default) and reader.args[0] is node:
            yield reader
        elif is_call(reader, *SHAPE_ONLY):
            yield from _products(reader)
