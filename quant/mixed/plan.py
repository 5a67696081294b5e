"""An allocation, and the ordinary recipe that it amounts to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from quant.mixed.groups import Group
from quant.mixed.settings import FLOAT
from quant.recipe import Override, Recipe
from quant.spec import QuantSpec

__all__ = ["Choice", "Plan", "concrete_recipe", "plain_recipe"]


@dataclass(frozen=True)
class Choice:
    """The width of one group.

    Attributes:
        group: its name.
        bits: its width; 16 is float.
        places: (layer, role) of everything that gets the width.
    """

    group: str
    bits: int
    places: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, group: Group, bits: int) -> "Choice":
        """A group at a width."""
        return cls(group.name, bits, group.places)


@dataclass(frozen=True)
class Plan:
    """The width of every group, in the order of execution."""

    choices: tuple[Choice, ...]

    @property
    def bits(self) -> dict[str, int]:
        """Widths by group name."""
        return {choice.group: choice.bits for choice in self.choices}


def concrete_recipe(recipe: Recipe, plan: Plan) -> Recipe:
    """The recipe with the plan written out and without its section ``mixed_precision``.

    A format ``activation`` at 6 bits becomes the format ``activation_6``, and every layer whose width is not
    the recipe's own gets an override, behind those of the recipe. The result can be read, edited and used
    alone.

    Args:
        recipe: the recipe that was solved.
        plan: its solution.
    """
    specs = dict(recipe.specs)
    overrides: dict[str, dict[str, str | None]] = {}
    for layer, role, bits in _places(plan):
        spec = recipe.spec_for(role, layer)
        if spec is None or spec.bits == bits:
            continue
        name = None if bits == FLOAT else _named(specs, _name_of(recipe, spec), bits)
        overrides.setdefault(layer, {})[role] = name
    new = [Override(modules=layer, roles=roles) for layer, roles in overrides.items()]
    return plain_recipe(recipe, specs=specs, overrides=(*recipe.overrides, *new))


def plain_recipe(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe without its section ``mixed_precision``, and with other changes."""
    fields = {name: getattr(recipe, name) for name in type(recipe).model_fields if name != "mixed_precision"}
    return Recipe(**fields | changes)


def _places(plan: Plan) -> Iterator[tuple[str, str, int]]:
    for choice in plan.choices:
        for layer, role in choice.places:
            yield layer, role, choice.bits


def _name_of(recipe: Recipe, spec: QuantSpec) -> str:
    return next(name for name, known in recipe.specs.items() if known is spec)


def _named(specs: dict[str, QuantSpec], name: str, bits: int) -> str:
    """The name of a format at another width; the format is added where it is new."""
    spec = specs[name].model_copy(update={"bits": bits})
    free = f"{name}_{bits}"
    while specs.get(free, spec) != spec:
        free += "_"
    specs[free] = spec
    return free
