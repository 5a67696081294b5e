"""Methods change a float graph, before calibration, into one that quantizes better."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, fx

from quant.errors import BadInput
from quant.recipe import Recipe, near, parse

__all__ = [
    "ChannelRange",
    "Method",
    "MethodNote",
    "MethodOptions",
    "Ranges",
    "make_method",
    "method_names",
    "register_method",
]


@dataclass(frozen=True, eq=False)
class ChannelRange:
    """Smallest and largest value of each channel of the last axis, both [C], float32."""

    low: Tensor
    high: Tensor

    @property
    def amax(self) -> Tensor:
        """Largest magnitude of each channel, [C]."""
        return self.low.abs().maximum(self.high.abs())


Ranges = dict[fx.Node, ChannelRange]


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


class Method(Protocol):
    """One method with its options.

    The statistics of all methods are collected in one pass. A method that changes a watched value therefore
    also updates ``ranges``, so that the next method sees the truth.
    """

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """The nodes whose channel ranges (last axis) it needs."""
        ...

    def apply(self, graph: fx.GraphModule, ranges: Ranges, recipe: Recipe) -> list[MethodNote]:
        """Change ``graph`` in place, leaving its float output equal."""
        ...


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
