"""What stored weights take: the bytes of an exported file, and those of the format.

A weight [O, K] of b-bit codes with n scales, n / O of them in a row, takes::

    O · ⌈K b / 8⌉  +  4 n  +  O · ⌈n / O · b / 8⌉      bytes

of codes, float32 scales and, in a format that is not symmetric, zero points, which ONNX Runtime's
MatMulNBits packs like codes. Per weight that is b + (32 + b) / g bits for groups of g; the float weight
takes 32.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from benchmarks.analyses.weight_only_errors import LayerErrors
from quant.errors import BadInput

__all__ = ["FLOAT_BYTES", "Stored", "format_bytes", "stored_weights"]

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Stored:
    """What one weight takes in a file, in bytes."""

    codes: int = 0
    scales: int = 0
    zero_points: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.codes + self.scales + self.zero_points


def format_bytes(layer: LayerErrors) -> int:
    """What a layer's weight takes by its format, see the module's text."""
    rows, depth = layer.shape[0], math.prod(layer.shape[1:])
    zero_points = min(rows, layer.scales) * _bytes(max(1, layer.scales // rows), layer.bits)
    return (
        rows * _bytes(depth, layer.bits)
        + FLOAT_BYTES * layer.scales
        + (zero_points if layer.zero_points else 0)
    )


def stored_weights(path: Path, layers: Sequence[LayerErrors]) -> dict[str, Stored]:
    """What each layer's weight takes in a lowered model.

    Args:
        path: an ONNX file.
        layers: of the recipe it was made from.

    Returns:
        By the layers' names.

    Raises:
        BadInput: the file cannot be read, or does not hold the codes of a layer.
    """
    try:
        model = ir.load(path)
    except Exception as error:
        raise BadInput(f"{path} is not a readable ONNX file: {error}") from error
    sizes = {
        name: value.const_value.nbytes
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    found = {}
    for layer in layers:
        stem = f"{layer.site}."
        own = {name[len(stem) :]: size for name, size in sizes.items() if name.startswith(stem)}
        scales, zero_points = own.pop("scale", 0), own.pop("zero_point", 0)
        if not own:
            raise BadInput(f"{path} has no codes of '{layer.name}'; was it made from another recipe?")
        found[layer.name] = Stored(sum(own.values()), scales, zero_points)
    return found


def _bytes(codes: int, bits: int) -> int:
    return math.ceil(codes * bits / 8)
