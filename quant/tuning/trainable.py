"""The trained variables of a part of a calibrated graph: weights in codes, logarithms of scales, biases."""

from collections.abc import Mapping

import torch
from torch import Tensor, fx

from quant.fake_quantize import FakeQuantState
from quant.graph.nodes import constant_name, tensor_of
from quant.placement import Site
from quant.tuning.gram import spread
from quant.tuning.model import Tuning

__all__ = ["Trainable"]

_LATENT = 0.45
"""How far, in codes, a weight may start from its code: below half a code, so that no code changes."""


class Trainable:
    """What straight-through training may change in a part of a calibrated graph.

    Weights are w = s θ with their scale s fixed, activation scales s₀ eᵘ, biases b₀ + v. θ starts at the
    codes in force, moved towards the float weight as far as no code changes.
    """

    def __init__(self, tuning: Tuning, part: fx.GraphModule) -> None:
        """Collect them.

        Args:
            tuning: the calibrated graph and its reference.
            part: the graph, or a part of it made by :func:`quant.tuning.segments.segment_between`.
        """
        self._tuning = tuning
        self._weights: dict[str, Site] = {}
        self._activations: list[Site] = []
        biases: dict[str, None] = {}
        by_path = {site.path: site for site in tuning.sites}
        for node in part.graph.nodes:
            site = by_path.get(str(node.target)) if node.op == "call_module" else None
            if site is not None and site.is_weight:
                self._weights[str(constant_name(node.args[0]))] = site
                for reader in node.users:
                    arguments = [*reader.args, None]
                    if (name := constant_name(arguments[2])) is not None:
                        biases[name] = None
            elif site is not None and _has_trainable_scale(site):
                self._activations.append(site)
        self._grids = {name: site.quantizer.qparams for name, site in self._weights.items()}
        self._units = {name: spread(g.scale, self._now(name), g) for name, g in self._grids.items()}
        self.codes = {name: self._start(name).requires_grad_() for name in self._weights}
        self._old_scales = {site.name: site.quantizer.qparams.scale.clone() for site in self._activations}
        self.log_scales = {
            name: torch.zeros_like(scale, requires_grad=True) for name, scale in self._old_scales.items()
        }
        self._old_biases = {name: self._now(name).clone() for name in biases}
        self.biases = {
            name: torch.zeros_like(bias, requires_grad=True) for name, bias in self._old_biases.items()
        }

    def groups(self, weight_rate: float, scale_rate: float, bias_rate: float) -> list[dict[str, object]]:
        """Parameter groups for an optimizer.

        Args:
            weight_rate: in codes.
            scale_rate: of the logarithm of activation scales.
            bias_rate: in the biases' own units.
        """
        rates = ((self.codes, weight_rate), (self.log_scales, scale_rate), (self.biases, bias_rate))
        return [{"params": list(group.values()), "lr": rate} for group, rate in rates if group]

    def values(self) -> dict[str, Tensor]:
        """Parameters and scales by name, for ``torch.func.functional_call``."""
        found = {name: theta * self._units[name] for name, theta in self.codes.items()}
        for site in self._activations:
            found[f"{site.path}.scale"] = self._old_scales[site.name] * self.log_scales[site.name].exp()
        return found | {name: old + self.biases[name] for name, old in self._old_biases.items()}

    def state(self) -> dict[str, Tensor]:
        """A copy of what :meth:`values` gives now."""
        return {name: value.detach().clone() for name, value in self.values().items()}

    def keep(self, state: Mapping[str, Tensor]) -> None:
        """Write a :meth:`state` into the graph."""
        parameters = self._tuning.parameters
        for name, site in self._weights.items():
            parameters.set_weight(site, state[name], self._grids[name])
        for name in self.biases:
            parameters.set(name, state[name])
        for site in self._activations:
            scale, grid = state[f"{site.path}.scale"].double(), site.quantizer.qparams
            low, high = ((end - grid.zero_point) * scale for end in (grid.qmin, grid.qmax))
            parameters.set_range(site, low, high)

    def _now(self, name: str) -> Tensor:
        return self._tuning.parameters.get(name)

    def _start(self, name: str) -> Tensor:
        """θ₀, the shape of the weight."""
        unit = self._units[name]
        weight = self._now(name)
        rounded = self._weights[name].quantizer(weight)
        wanted = tensor_of(self._tuning.reference, name).detach()
        start: Tensor = (rounded + (wanted - rounded).clamp(-_LATENT * unit, _LATENT * unit)) / unit
        return start


def _has_trainable_scale(site: Site) -> bool:
    """Whether an activation has one affine scale; a range known beforehand stays."""
    spec = site.spec
    plain = spec.granularity == "per_tensor" and spec.scheme == "uniform" and spec.observer != "fixed"
    return plain and site.quantizer.state is FakeQuantState.QUANTIZING
