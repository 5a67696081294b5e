"""Methods by name: what prepares a float graph for quantization, and what tunes a calibrated one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict
from torch import fx

from quant.errors import BadInput
from quant.methods.statistics import Statistics
from quant.recipe import Recipe, near, parse

if TYPE_CHECKING:
    from quant.tuning.layer import Layer
    from quant.tuning.model import Tuning
    from quant.tuning.product import Product

__all__ = [
    "GraphMethod",
    "LayerMethod",
    "Method",
    "MethodNote",
    "MethodOptions",
    "ModelMethod",
    "WeightsOnly",
    "make_method",
    "method_names",
    "register_method",
]


@dataclass(frozen=True)
class MethodNote:
    """What a method did at one layer, or why it did nothing there.

    Attributes:
        method: its name.
        layer: the layer's name.
        applied: whether the graph changed.
        text: what was done or the reason.
    """

    method: str
    layer: str
    applied: bool
    text: str


class MethodOptions(BaseModel):
    """Base of a method's options: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Options = TypeVar("Options", bound=MethodOptions)


@runtime_checkable
class GraphMethod(Protocol):
    """Changes the float graph before calibration and leaves its function as it is.

    A method that does change the function says so by a class attribute ``changes_function = True``; it is
    then the last graph method of a recipe, and remembers the original (:mod:`quant.graph.originals`).

    The statistics of several graph methods are collected in one pass. A method that changes a watched value
    therefore also updates them (:meth:`Statistics.rescale`), so that the next method sees the truth; one that
    cannot says so by a class attribute ``renews_statistics = True``, and those behind it get a new pass. One
    that looks at rows of activations has a method ``sampled(graph)`` beside ``watched(graph)``.
    """

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The nodes whose channel ranges (last axis) it needs."""
        ...

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Change ``graph`` in place, leaving its float output equal."""
        ...


@runtime_checkable
class LayerMethod(Protocol):
    """Tunes one layer at a time after calibration, in forward order.

    Neighbouring layer methods of a recipe share one walk through the graph: at each layer they are called one
    after the other, and what they change there is what the next layer's ``inputs`` are computed with.
    """

    def tune_layer(self, layer: Layer) -> MethodNote | None:
        """Change a linear layer or convolution through the methods of :class:`quant.tuning.layer.Layer`."""
        ...

    def tune_product(self, product: Product) -> MethodNote | None:
        """Change the quantizers of an attention product."""
        ...


class WeightsOnly:
    """Base of layer methods that leave attention products alone."""

    def tune_product(self, product: Product) -> MethodNote | None:
        """Nothing."""
        del product
        return None


@runtime_checkable
class ModelMethod(Protocol):
    """Tunes the calibrated graph as a whole, such as block by block."""

    def tune_model(self, tuning: Tuning) -> list[MethodNote]:
        """Change parameters and quantizers through :class:`quant.tuning.model.Tuning`."""
        ...


Method = GraphMethod | LayerMethod | ModelMethod

_METHODS: dict[str, tuple[type[MethodOptions], Callable[[Any], Method]]] = {}


def register_method(
    name: str, options: type[Options]
) -> Callable[[Callable[[Options], Method]], Callable[[Options], Method]]:
    """Make a method available to recipes.

    Write one file in ``quant/methods`` with the options and the class, and decorate the class::

        @register_method("my_method", MyOptions)
        class MyMethod:
            def __init__(self, options: MyOptions) -> None: ...
    """

    def add(factory: Callable[[Options], Method]) -> Callable[[Options], Method]:
        _METHODS[name] = (options, factory)
        return factory

    return add


def method_names() -> tuple[str, ...]:
    """All registered names, sorted."""
    return tuple(sorted(_METHODS))


def make_method(name: str, options: Mapping[str, Any]) -> Method:
    """Build a method from a recipe's entry.

    Raises:
        BadInput: unknown name or option.
    """
    if name not in _METHODS:
        hint = near(name, _METHODS)
        raise BadInput(f"unknown method '{name}' in the recipe{hint}; known: {', '.join(method_names())}")
    model, factory = _METHODS[name]
    return factory(parse(model, options, f"method '{name}'"))
