"""A recipe: which roles are quantized, in what format, and by which methods."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from quant.errors import BadInput
from quant.mixed.settings import MixedPrecision
from quant.observers import make_observer, observer_names
from quant.recipe_file import read_recipes, shipped_recipes
from quant.roles import ROLES
from quant.spec import QuantSpec
from quant.words import near

__all__ = [
    "MethodSettings",
    "Override",
    "Recipe",
    "explain",
    "load_recipe",
    "load_recipes",
    "near",
    "parse",
    "shipped_recipes",
]

M = TypeVar("M", bound=BaseModel)


class MethodSettings(BaseModel):
    """One method by name; every other key is an option of that method."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The method's own keys."""
        return dict(self.model_extra or {})


class Override(BaseModel):
    """Other formats for the layers whose name matches ``modules``; ``null`` leaves a role in float."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modules: str
    roles: dict[str, str | None]


class Recipe(BaseModel):
    """Placement and formats as data.

    Attributes:
        name: names the variants, ``<name>-<target>``.
        description: one line for the report.
        specs: formats by a name of the recipe's choosing.
        roles: role (a key of :data:`quant.roles.ROLES`) to the name of a spec; roles not named stay float.
        include: patterns of layer names that are considered.
        exclude: patterns of layer names that stay float.
        overrides: exceptions by layer name; the last match wins.
        methods: graph methods are applied in order before calibration, the others in order after it.
        mixed_precision: where it is given, the widths are chosen layer by layer before calibration.
        method_images: how many calibration images the graph methods' own statistics use.
        tuning_images: how many calibration images the other methods use; they are held in memory.
        seed: of every random choice that a method makes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.]*$")
    description: str = ""
    specs: dict[str, QuantSpec]
    roles: dict[str, str]
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    overrides: tuple[Override, ...] = ()
    methods: tuple[MethodSettings, ...] = ()
    mixed_precision: MixedPrecision | None = None
    method_images: int = Field(default=64, ge=1)
    tuning_images: int = Field(default=256, ge=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, settings in self.specs.items():
            if settings.observer not in observer_names():
                hint = near(settings.observer, observer_names())
                known = ", ".join(observer_names())
                raise ValueError(f"spec '{name}' names observer '{settings.observer}'{hint}; known: {known}")
            make_observer(settings, f"spec {name}")  # refuses wrong options
        used: list[Mapping[str, str | None]] = [self.roles, *(o.roles for o in self.overrides)]
        for role, spec in (item for mapping in used for item in mapping.items()):
            if role not in ROLES:
                raise ValueError(f"unknown role '{role}'{near(role, ROLES)}; known: {', '.join(ROLES)}")
            if spec is not None and spec not in self.specs:
                hint = near(spec, self.specs)
                raise ValueError(f"role '{role}' names spec '{spec}'{hint}; defined: {', '.join(self.specs)}")
        return self

    def spec_for(self, role: str, layer: str) -> QuantSpec | None:
        """The format of ``role`` at ``layer``, or None where it stays float."""
        if not _matches(layer, self.include) or _matches(layer, self.exclude):
            return None
        name: str | None = self.roles.get(role)
        for override in self.overrides:
            if role in override.roles and fnmatchcase(layer, override.modules):
                name = override.roles[role]
        return None if name is None else self.specs[name]


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a shipped recipe by name, or a file that holds one.

    Raises:
        BadInput: no such recipe, not YAML, or an unknown or wrong key; the message names it.
    """
    recipes = load_recipes(name_or_path)
    if len(recipes) > 1:
        names = ", ".join(recipe.name for recipe in recipes)
        raise BadInput(f"recipe {name_or_path} is a grid of {len(recipes)} ({names}); one is needed here")
    return recipes[0]


def load_recipes(name_or_path: str | Path) -> tuple[Recipe, ...]:
    """Read a shipped recipe by name, or a file: one recipe, or a grid (:mod:`quant.recipe_file`).

    Raises:
        BadInput: as :func:`load_recipe`.
    """
    return tuple(parse(Recipe, data, f"recipe {name_or_path}") for data in read_recipes(name_or_path))


def parse(model: type[M], data: Mapping[str, Any], what: str) -> M:
    """Validate settings.

    Raises:
        BadInput: one line that names every wrong key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise BadInput(f"{what}: {explain(error, model)}") from error


def explain(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Pydantic's findings in one line, unknown keys with the nearest known one."""
    parts = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            owner = model and _model_at(model, item["loc"])
            known = list(owner.model_fields) if owner is not None else []
            allowed = f"; allowed: {', '.join(known)}" if known else ""
            parts.append(f"unknown key '{where}'{near(str(item['loc'][-1]), known)}{allowed}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            parts.append(f"{where}: {message}" if where else message)
    return "; ".join(parts)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """The model whose key the last part of ``location`` is."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        model = (field and _model_in(field.annotation)) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that ``X``, ``tuple[X, ...]`` or ``dict[str, X]`` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for a in get_args(annotation) if (found := _model_in(a))), None)
