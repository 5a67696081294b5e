"""PANN: choose every weight's step from a budget of energy instead of from the weight's range.

With R = P / b_x − 0.5 additions per weight, for a budget of P bit flips and inputs of b_x bits, each layer
gets one step γ_w = ‖w‖₁ / (R d) and codes round(w / γ_w) that nothing clips; :mod:`quant.energy.pann` has the
formulas and the power they stand for.

The energy is modelled: hardware that adds repeatedly would spend it, while ONNX Runtime and TensorRT multiply
these codes as they do any others. Codes up to 127 are exported; larger ones exist in simulation only.

Source: "Energy awareness in low precision neural networks", arXiv 2202.02783.
"""

from dataclasses import replace

import torch
from pydantic import Field

from quant.energy.pann import (
    Candidate,
    Trial,
    additions_of,
    budget_of_bits,
    choose,
    power,
    weight_codes,
    weight_step,
)
from quant.methods.registry import MethodNote, MethodOptions, WeightsOnly, register_method
from quant.qparams import MIN_SCALE
from quant.tuning.layer import Layer

__all__ = ["Pann", "PannOptions"]

NAME = "pann"
_ROWS = 512


class PannOptions(MethodOptions):
    """Options.

    Attributes:
        budget_bits: spend as many bit flips per weight as an unsigned multiply-accumulate of this width does.
    """

    budget_bits: int = Field(default=4, ge=2, le=8)


@register_method(NAME, PannOptions)
class Pann(WeightsOnly):
    """The method, see the module's text."""

    def __init__(self, options: PannOptions) -> None:
        self._budget = budget_of_bits(options.budget_bits)

    def tune_layer(self, layer: Layer) -> MethodNote:
        """Set the weight's scale to γ_w."""
        spec = layer.weight_site.spec
        if layer.input_site is None or layer.input_site.spec.scheme != "uniform":
            return MethodNote(
                NAME, layer.name, False, "its input is not made of integers that could be added"
            )
        if spec.bits != 8 or not (spec.symmetric and spec.signed) or spec.scheme != "uniform":
            text = "its weight's format must be signed, symmetric, uniform and 8 bits wide"
            return MethodNote(NAME, layer.name, False, text)
        bits = layer.input_site.spec.bits
        if self._budget <= 0.5 * bits:
            text = f"inputs of {bits} bits leave nothing of {self._budget:g} bit flips for additions"
            return MethodNote(NAME, layer.name, False, text)
        step = max(weight_step(layer.weight, self._budget / bits - 0.5), MIN_SCALE)
        codes = weight_codes(layer.weight, step)
        largest = int(codes.abs().max())
        grid = replace(layer.grid, scale=torch.full_like(layer.grid.scale, step))
        if largest > spec.qmax:
            grid = replace(grid, qmin=-largest, qmax=largest)
        trials = self._trials(layer)
        layer.set_grid(grid)
        spent = Candidate(bits, additions_of(codes))
        text = (
            f"modelled energy (kernels multiply): {spent.additions:.2f} additions of {bits} bits per weight, "
            f"{power(spent):.1f} bit flips for a budget of {self._budget:g}, codes up to {largest}"
        )
        if largest > spec.qmax:
            text += "; simulation only, as they exceed 8 bits"
        return MethodNote(NAME, layer.name, True, text + _advice(trials, bits))

    def _trials(self, layer: Layer) -> tuple[Trial, ...]:
        """What other widths of the input would give; none for grouped convolutions."""
        if layer.groups > 1:
            return ()
        rows = layer.rows(layer.float_inputs[0])[0]
        rows = rows[:: max(1, len(rows) // _ROWS)].clone()
        kernel = rows.shape[1] // layer.weight.shape[1]
        for unit in layer.clipped_units:
            rows[:, unit * kernel : (unit + 1) * kernel] = 0.0
        return choose(layer.weight.reshape(len(layer.weight), -1), rows, self._budget)


def _advice(trials: tuple[Trial, ...], bits: int) -> str:
    """Which width of the input would spend the budget better, where one would by a tenth of the error."""
    mine = next((t for t in trials if t.candidate.activation_bits == bits), None)
    if mine is None or trials[0].error > 0.9 * mine.error:
        return ""
    best = trials[0].candidate.activation_bits
    return f"; inputs of {best} bits would give {trials[0].error / mine.error:.2f} of the error"
