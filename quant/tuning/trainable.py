"""The trained variables of a part of a calibrated graph: weights, scales, biases and LayerNorm's gains."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median_low

import torch
from torch import Tensor, fx

from quant.fake_quantize import FakeQuantState
from quant.graph.nodes import constant_name, is_call, tensor_of
from quant.placement import Site
from quant.tuning.gram import spread
from quant.tuning.model import Tuning

__all__ = ["Trainable"]

_LATENT = 0.45
"""How far, in codes, a weight may start from its code: below half a code, so that no code changes."""


class Trainable:
    """What straight-through training may change in a part of a calibrated graph.

    - Weights w = s θ. θ starts at the codes in force, moved towards the float weight as far as no code
      changes.
    - Their scales s = s₀ exp(c / q) with q the highest code: a step of c moves the largest weights by as many
      codes. As rounding passes gradients on, ∂/∂c = Σ w ∂/∂w / q.
    - LayerNorm's gains γ = γ₀ exp(c / q) with the median q of all weights.
    - Activation scales s = s₀ eᵘ.
    - Biases b = b₀ + v.

    Attributes:
        codes: θ by the weight's name.
        gains: c by the gain's name, and by the name of the weight's scale.
        log_scales: u by the name of the activation's scale.
        biases: v by the bias' name.
    """

    def __init__(self, tuning: Tuning, part: fx.GraphModule) -> None:
        """Collect them.

        Args:
            tuning: the calibrated graph and its reference.
            part: the graph, or a part of it made by :func:`quant.tuning.segments.segment_between`.
        """
        self._tuning, self._part = tuning, part
        self._weights: dict[str, Site] = {}
        activations: list[Site] = []
        gains: dict[str, None] = {}
        biases: dict[str, None] = {}
        by_path = {site.path: site for site in tuning.sites}
        for node in part.graph.nodes:
            site = by_path.get(str(node.target)) if node.op == "call_module" else None
            if site is not None and site.is_weight:
                self._weights[str(constant_name(node.args[0]))] = site
                biases |= _constants(reader.args[2:3] for reader in node.users)
            elif site is not None and _has_trainable_scale(site):
                activations.append(site)
            elif is_call(node, torch.ops.aten.layer_norm.default):
                gains |= _constants([node.args[2:3]])
                biases |= _constants([node.args[3:4]])
        self._grids = {name: site.quantizer.qparams for name, site in self._weights.items()}
        self._activations = {_scale_of(site): site for site in activations}
        highest = {_scale_of(site): site.quantizer.qmax for site in self._weights.values()}
        middle = median_low(highest.values()) if highest else 1
        self._highest = highest | dict.fromkeys(gains, middle)
        sites = (*self._weights.values(), *activations)
        self._old = {_scale_of(site): site.quantizer.qparams.scale.clone() for site in sites}
        self._old |= {name: self._now(name).clone() for name in (*gains, *biases)}
        self.codes = {name: self._start(name).requires_grad_() for name in self._weights}
        self.gains = {name: _zeros(self._old[name]) for name in self._highest}
        self.log_scales = {name: _zeros(self._old[name]) for name in self._activations}
        self.biases = {name: _zeros(self._old[name]) for name in biases}

    def groups(self, weight_rate: float, scale_rate: float, bias_rate: float) -> list[dict[str, object]]:
        """Parameter groups for an optimizer.

        Args:
            weight_rate: of weights, their scales and LayerNorm's gains, in codes.
            scale_rate: of the logarithm of activation scales.
            bias_rate: in the biases' own units.
        """
        rates = (
            (self.codes | self.gains, weight_rate),
            (self.log_scales, scale_rate),
            (self.biases, bias_rate),
        )
        return [{"params": list(group.values()), "lr": rate} for group, rate in rates if group]

    def values(self) -> dict[str, Tensor]:
        """Parameters and scales by name, for ``torch.func.functional_call``."""
        old = self._old
        found = {name: old[name] * torch.exp(c / self._highest[name]) for name, c in self.gains.items()}
        for name, site in self._weights.items():
            scale = found[_scale_of(site)]
            found[name] = self.codes[name] * spread(scale, self.codes[name], self._grids[name])
            found[_scale_of(site)] = scale.detach()  # its gradient comes through the weight
        found |= {name: old[name] * u.exp() for name, u in self.log_scales.items()}
        return found | {name: old[name] + bias for name, bias in self.biases.items()}

    def state(self) -> dict[str, Tensor]:
        """A copy, on the CPU, of what :meth:`values` gives now."""
        return {name: value.detach().cpu().clone() for name, value in self.values().items()}

    def keep(self, state: Mapping[str, Tensor]) -> None:
        """Write a :meth:`state` into the graph, which is on the CPU again."""
        parameters = self._tuning.parameters
        for name, site in self._weights.items():
            grid = replace(self._grids[name].to("cpu"), scale=state[_scale_of(site)])
            parameters.set_weight(site, state[name], grid)
        for name, site in self._activations.items():
            scale, grid = state[name].double(), site.quantizer.qparams
            low, high = ((end - grid.zero_point) * scale for end in (grid.qmin, grid.qmax))
            parameters.set_range(site, low, high)
        scales = {_scale_of(site) for site in self._weights.values()}
        for name in (*self.gains, *self.biases):
            if name not in scales:
                parameters.set(name, state[name])

    def _now(self, name: str) -> Tensor:
        return tensor_of(self._part, name).detach()

    def _start(self, name: str) -> Tensor:
        """θ₀, the shape of the weight."""
        weight, grid = self._now(name), self._grids[name]
        unit = spread(grid.scale, weight, grid)
        rounded = self._weights[name].quantizer(weight)
        wanted = tensor_of(self._tuning.reference, name).detach().to(weight)
        start: Tensor = (rounded + (wanted - rounded).clamp(-_LATENT * unit, _LATENT * unit)) / unit
        return start


def _scale_of(site: Site) -> str:
    return f"{site.path}.scale"


def _zeros(like: Tensor) -> Tensor:
    return torch.zeros_like(like, requires_grad=True)


def _constants(arguments: Iterable[Sequence[object]]) -> dict[str, None]:
    """The names of the parameters among some arguments of nodes, once each and in order."""
    names = [constant_name(argument) for few in arguments for argument in few]
    return {name: None for name in names if name is not None}


def _has_trainable_scale(site: Site) -> bool:
    """Whether an activation has one affine scale; a range known beforehand stays."""
    spec = site.spec
    plain = spec.granularity == "per_tensor" and spec.scheme == "uniform" and spec.observer != "fixed"
    return plain and site.quantizer.state is FakeQuantState.QUANTIZING
