"""Put fake-quant layers into a captured graph where a recipe wants them."""

from dataclasses import dataclass

from torch import fx

from quant.errors import BadInput
from quant.fake_quantize import FakeQuantize
from quant.graph.nodes import layer_name, shape_of
from quant.integer.marks import has_own_codes
from quant.recipe import Recipe
from quant.roles import Place, find_places
from quant.spec import QuantSpec

__all__ = ["FIXED_RANGE", "KEEP_FLOAT", "Site", "check_groups", "place_fake_quant", "spec_at"]

FIXED_RANGE = "octavo_fixed_range"
"""Key in the meta of a node: the range (low, high), both [], with which its value is quantized per tensor."""

KEEP_FLOAT = "octavo_keep_float"
"""Key in the meta of a layer's node: a method decided that it is not quantized, whatever the recipe says."""


@dataclass(frozen=True, eq=False)
class Site:
    """One fake-quant layer in the graph.

    Attributes:
        name: ``blocks.7.mlp.fc2.input``; also the layer's path in the graph module, plus ``_quantizer``.
        role: the role that placed it.
        layer: the layer it belongs to.
        spec: the recipe's format.
        quantizer: the fake-quant layer.
        node: the graph node that calls it.
        roles: all roles that share this layer, because they read the same tensor in the same format.
    """

    name: str
    role: str
    layer: str
    spec: QuantSpec
    quantizer: FakeQuantize
    node: fx.Node
    roles: tuple[str, ...]

    @property
    def is_weight(self) -> bool:
        """Whether it quantizes a weight."""
        return self.role.endswith(".weight")

    @property
    def path(self) -> str:
        """Where the fake-quant layer is in the graph module."""
        return f"{self.name}_quantizer"


def place_fake_quant(graph: fx.GraphModule, recipe: Recipe) -> list[Site]:
    """Insert the fake-quant layers, in place, all of them OFF.

    A tensor that several places read in the same format gets one layer: one scale, one QuantizeLinear.
    Where a reader asks for another format than the layer in front of it, it gets its own.

    Args:
        graph: a captured graph without fake-quant layers.
        recipe: what to quantize.

    Returns:
        The sites in the order of execution; empty when the recipe matches nothing.
    """
    places = [place for place in find_places(graph) if not has_own_codes(place.value)]
    wanted = [(p, s) for p in places if (s := _spec_of(recipe, p)) is not None]
    taken = {(place.value, reader) for place, _ in wanted for reader in place.readers or ()}
    groups: dict[tuple[fx.Node, str], tuple[QuantSpec, list[Place]]] = {}
    for place, spec in wanted:
        groups.setdefault((place.value, spec.model_dump_json()), (spec, []))[1].append(place)
    sites = []
    for spec, places in groups.values():
        readers = dict.fromkeys(reader for place in places for reader in _readers(place, taken))
        if readers:
            sites.append(_insert(graph, places, spec, list(readers)))
    graph.graph.lint()
    graph.recompile()
    return sites


def check_groups(graph: fx.GraphModule, recipe: Recipe) -> None:
    """Find weights whose groups do not fit, before anything is done.

    Raises:
        BadInput: naming the first such layer, and how many more there are.
    """
    wrong = []
    for place in find_places(graph):
        spec = _spec_of(recipe, place)
        if spec is None or spec.group_size is None or not place.role.endswith(".weight"):
            continue
        shape = [int(size) for size in shape_of(place.value)]
        if shape[-1] % spec.group_size:
            wrong.append(f"'{place.name}' of shape {shape} has no whole groups of {spec.group_size}")
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise BadInput(
            f"{wrong[0]}{more}: name such layers in `exclude`, or choose a group_size that divides the last "
            "axis"
        )


def spec_at(recipe: Recipe, role: str, node: fx.Node) -> QuantSpec | None:
    """The format of ``role`` at a layer's node, or None where it stays float."""
    return None if KEEP_FLOAT in node.meta else recipe.spec_for(role, layer_name(node))


def _spec_of(recipe: Recipe, place: Place) -> QuantSpec | None:
    kept = any(KEEP_FLOAT in node.meta for node in place.readers or (place.value,))
    return None if kept else recipe.spec_for(place.role, place.layer)


def _readers(place: Place, taken: set[tuple[fx.Node, fx.Node]]) -> list[fx.Node]:
    """Who gets the quantized tensor; a layer's output leaves out readers with a wish of their own."""
    if place.readers is not None:
        return list(place.readers)
    return [n for n in place.value.users if n.op != "call_module" and (place.value, n) not in taken]


def _insert(graph: fx.GraphModule, places: list[Place], spec: QuantSpec, readers: list[fx.Node]) -> Site:
    first = places[0]
    quantizer = FakeQuantize(spec, first.name)
    axis = next((p.channel_axis for p in places if p.channel_axis is not None), None)
    if axis is not None and not first.role.endswith(".weight"):
        quantizer.watch_channels(axis)
    if FIXED_RANGE in first.value.meta and spec.granularity == "per_tensor":
        quantizer.fix_range(*first.value.meta[FIXED_RANGE])
    path = f"{first.name}_quantizer"
    graph.add_submodule(path, quantizer)
    value = first.value
    with graph.graph.inserting_after(value):
        node = graph.graph.call_module(path, (value,))
    node.meta["nn_module_stack"] = readers[0].meta.get("nn_module_stack", {})
    node.meta["val"] = value.meta.get("val")
    for reader in readers:
        reader.replace_input_with(value, node)
    return Site(
        name=first.name,
        role=first.role,
        layer=first.layer,
        spec=spec,
        quantizer=quantizer,
        node=node,
        roles=tuple(dict.fromkeys(p.role for p in places)),
    )
