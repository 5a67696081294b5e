"""Observers by name."""

from collections.abc import Callable
from typing import TypeVar

from quant.errors import BadInput, InternalError
from quant.observers.base import Observer
from quant.spec import QuantSpec

__all__ = ["make_observer", "observer_names", "register_observer"]

T = TypeVar("T", bound=Observer)

_OBSERVERS: dict[str, type[Observer]] = {}


def register_observer(name: str) -> Callable[[type[T]], type[T]]:
    """Make an observer known under ``name``.

    How to add one:

    1. Write a module in ``quant/observers/``; every module there is imported by itself.
    2. Derive from :class:`quant.observers.base.Observer` and decorate::

        @register_observer("three_sigma")
        class ThreeSigma(Observer):
            defaults: ClassVar[Mapping[str, float]] = {"sigmas": 3.0}  # its only options

            def _update(self, x, low, high): ...  # x: a batch; low, high: its exact bounds
            def _range(self, spec): ...  # the bounds to quantize with
            def _tensors(self): ...  # what it has seen ...
            def _load(self, tensors): ...  # ... and back

    3. A recipe can now say ``observer: three_sigma``. Nothing else changes.

    Raises:
        InternalError: the name is taken.
    """

    def register(cls: type[T]) -> type[T]:
        if name in _OBSERVERS:
            raise InternalError(f"two observers are registered as '{name}'")
        _OBSERVERS[name] = cls
        return cls

    return register


def observer_names() -> list[str]:
    """The known names, sorted."""
    return sorted(_OBSERVERS)


def make_observer(spec: QuantSpec, name: str = "tensor") -> Observer:
    """A fresh observer as ``spec.observer`` and ``spec.observer_options`` ask.

    Args:
        spec: the format the observer serves.
        name: the observed tensor's name, for messages.

    Raises:
        BadInput: no observer or no option has that name, or an option's value is not allowed.
    """
    if spec.observer not in _OBSERVERS:
        raise BadInput(
            f"no observer is called '{spec.observer}' (for '{name}'); known are {', '.join(observer_names())}"
        )
    return _OBSERVERS[spec.observer](spec, name)
