"""What a recipe says about ranges, granularities, softmax and LayerNorm, in words for one row of a table."""

from dataclasses import dataclass

from quant.recipe import Recipe
from quant.spec import QuantSpec

__all__ = ["FLOAT", "Setting", "setting_of"]

FLOAT = "float"
_STREAM = ("layer_norm.input", "residual_add.input")
_GRANULARITY = {"per_tensor": "layer", "per_channel": "channel", "per_group": "group"}


@dataclass(frozen=True)
class Setting:
    """The choices of a recipe.

    Attributes:
        observer: that finds the ranges of what layers read, with its options.
        weights: granularity of weights: ``layer``, ``channel``, ``group``, or ``float``.
        stream: likewise of what LayerNorm and residual additions read; ``powers of two`` for channel scales
            that are powers of two apart.
        layer_norm: ``float`` or ``integer``.
        softmax: what its values become: ``float``, ``uniform, 8 bits``, ``log2, 4 bits``, or ``log-int, 4
            bits`` where it is computed on integers as well.
    """

    observer: str
    weights: str
    stream: str
    layer_norm: str
    softmax: str

    @property
    def fully_quantized(self) -> bool:
        """Whether stream and attention weights are rounded as well, as FQ-ViT asks."""
        return FLOAT not in (self.weights, self.stream, self.softmax)

    @property
    def without_observer(self) -> tuple[str, ...]:
        """Everything but the observer: recipes with the same differ in it alone."""
        return (self.weights, self.stream, self.layer_norm, self.softmax)


def setting_of(recipe: Recipe) -> Setting:
    """Read a recipe; overrides of single layers are not looked at."""
    methods = {method.name: method.options for method in recipe.methods}
    activation = _spec(recipe, "linear.input")
    stream = [spec for role in _STREAM if (spec := _spec(recipe, role)) is not None]
    return Setting(
        observer=FLOAT if activation is None else _observer(activation),
        weights=_granularity(_spec(recipe, "linear.weight")),
        stream=_granularity(stream[0] if len(stream) == len(_STREAM) else None),
        layer_norm="integer" if "integer_layer_norm" in methods else FLOAT,
        softmax=_softmax(_spec(recipe, "softmax.output"), methods.get("log_int_softmax")),
    )


def _spec(recipe: Recipe, role: str) -> QuantSpec | None:
    name = recipe.roles.get(role)
    return None if name is None else recipe.specs[name]


def _observer(spec: QuantSpec) -> str:
    return ", ".join([spec.observer, *(f"{key} {value:g}" for key, value in spec.observer_options.items())])


def _granularity(spec: QuantSpec | None) -> str:
    if spec is None:
        return FLOAT
    return "powers of two" if spec.observer == "power_of_two" else _GRANULARITY[spec.granularity]


def _softmax(spec: QuantSpec | None, on_integers: dict[str, object] | None) -> str:
    if on_integers is not None:
        return f"log-int, {on_integers.get('bits', 4)} bits"
    return FLOAT if spec is None else f"{spec.scheme}, {spec.bits} bits"
