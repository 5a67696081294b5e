"""Block-wise reconstruction: train each block's weights and scales to give the float block's output.

Block by block in forward order, with ŷ the quantized block on what the quantized blocks before it give, y the
float block's output, and g the rest of the float model up to the features in front of its last layer::

    first    L = ‖ŷ − y‖² / ‖ŷ₀ − y‖²
    then     L = ‖g(ŷ) − g(y)‖² / ‖g(ŷ₀) − g(y)‖² + 2 ‖ŷ − y‖² / ‖ŷ₀ − y‖²

(ŷ₀: before training.) Weights are trained in units of their scale, w = s θ, and activation scales as
s = s₀ eᵘ, all through straight-through gradients, with Adam and a cosine schedule. θ starts at the codes
found so far, moved towards the float weight as far as no code changes, so that a weight near a border can
cross it. One part of the images is held out; a block whose loss on them did not become smaller is left as
it was.

Source: BRECQ (Li et al. 2021, section 3) for the block-wise form; the loss and the straight-through training
of weights follow GLF-Q (2026, section 3); the guard is that of SynFIM-Q.
"""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, fx
from torch.func import functional_call

from quant.fake_quantize import FakeQuantState
from quant.graph.nodes import constant_name, layer_name
from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.placement import Site
from quant.qparams import QParams
from quant.tuning.gram import spread
from quant.tuning.model import Tuning
from quant.tuning.segments import Segment, segment_between, segments

__all__ = ["Reconstruct", "ReconstructOptions"]

NAME = "reconstruct"
_LATENT = 0.45
"""How far, in codes, a weight may start from its code: below half a code."""


class ReconstructOptions(MethodOptions):
    """Options.

    Attributes:
        iterations: steps per block with the block's own loss.
        feature_iterations: steps per block after them with the loss of the features, too.
        batch: images per step.
        weight_rate: learning rate of weights, in codes.
        scale_rate: learning rate of the logarithm of activation scales.
        bias_rate: learning rate of biases, in units of the root mean square of the block's output error.
        held_out: share of the images that judge.
        blocks: only blocks whose name is in this list; all where it is empty.
    """

    iterations: int = Field(default=400, ge=0)
    feature_iterations: int = Field(default=0, ge=0)
    batch: int = Field(default=16, ge=1)
    weight_rate: float = Field(default=2e-3, ge=0.0)
    scale_rate: float = Field(default=2e-3, ge=0.0)
    bias_rate: float = Field(default=1e-2, ge=0.0)
    held_out: float = Field(default=0.2, gt=0.0, lt=1.0)
    blocks: tuple[str, ...] = ()


@dataclass(eq=False)
class _Block:
    """A block while it is trained.

    Attributes:
        graph: the quantized block, of one input.
        weights: sites of its weights, with the parameters' names.
        scales: sites of its activations.
        biases: names of its layers' biases.
        rest: the float model from the block's output to the features.
    """

    graph: fx.GraphModule
    weights: dict[str, Site]
    scales: list[Site]
    biases: list[str]
    rest: fx.GraphModule | None


@register_method(NAME, ReconstructOptions)
class Reconstruct:
    """The method, see the module's text."""

    def __init__(self, options: ReconstructOptions) -> None:
        self._options = options

    def tune_model(self, tuning: Tuning) -> list[MethodNote]:
        """Train all blocks, in order."""
        layers = {
            reader: layer_name(_twin(tuning, reader))
            for site in tuning.sites
            if site.is_weight
            for reader in site.node.users
        }
        found = segments(tuning.graph, layers, {n.name for n in tuning.reference.graph.nodes})
        features = _features(tuning)
        images = torch.cat(tuning.batches)
        quantized = floating = images
        start: fx.Node = next(n for n in tuning.graph.graph.nodes if n.op == "placeholder")
        notes = []
        for index, segment in enumerate(found):
            between = (
                segment_between(tuning.graph, start, segment.start) if start is not segment.start else None
            )
            float_between = (
                segment_between(tuning.reference, _twin(tuning, start), _twin(tuning, segment.start))
                if between is not None
                else None
            )
            quantized = _apply(between, quantized)
            floating = _apply(float_between, floating)
            twin_start, twin_end = _twin(tuning, segment.start), _twin(tuning, segment.end)
            wanted = _apply(segment_between(tuning.reference, twin_start, twin_end), floating)
            block = _block(tuning, segment, features)
            if not self._options.blocks or segment.name in self._options.blocks:
                notes.append(self._train(tuning, segment, block, quantized, wanted))
            quantized = _apply(block.graph, quantized)
            floating = wanted
            start = segment.end
            tuning.progress("reconstructing blocks", index + 1, len(found))
        return notes

    def _train(
        self, tuning: Tuning, segment: Segment, block: _Block, inputs: Tensor, wanted: Tensor
    ) -> MethodNote:
        options = self._options
        generator = torch.Generator().manual_seed(tuning.seed)
        order = torch.randperm(len(inputs), generator=generator)
        held = max(1, round(options.held_out * len(inputs)))
        judges, train = order[:held], order[held:]
        learned = _Learned(tuning, block)
        before = _losses(block, learned.initial(), inputs[judges], wanted[judges])
        start = _losses(block, learned.values(), inputs[train][:64], wanted[train][:64])
        unit = start[0] ** 0.5
        groups = learned.groups(options, unit)
        optimizer = torch.optim.Adam(groups)
        steps = options.iterations + options.feature_iterations
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
        for step in range(steps):
            picked = train[torch.randint(len(train), (options.batch,), generator=generator)]
            output = functional_call(block.graph, learned.values(), (inputs[picked],))
            loss = 2.0 * (output - wanted[picked]).square().mean() / start[0]
            if step >= options.iterations and block.rest is not None:
                with torch.no_grad():
                    target = block.rest(wanted[picked])
                loss = loss + (block.rest(output) - target).square().mean() / start[1]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        after = _losses(block, learned.values(), inputs[judges], wanted[judges])
        shares = [a / b if b else 1.0 for a, b in zip(after, before, strict=True)]
        text = f"held-out error {shares[0]:.3f} of before, features {shares[1]:.3f}"
        if not (shares[1] < 1.0 and shares[0] < 1.25):
            return MethodNote(NAME, segment.name, False, f"{text}: left as it was")
        learned.keep()
        return MethodNote(NAME, segment.name, True, text)


class _Learned:
    """The trained variables of a block and the tensors that the block is called with."""

    def __init__(self, tuning: Tuning, block: _Block) -> None:
        self._tuning = tuning
        self._block = block
        self._units: dict[str, Tensor] = {}
        self._grids: dict[str, QParams] = {}
        self._theta: dict[str, Tensor] = {}
        for name, site in block.weights.items():
            grid = site.quantizer.qparams
            weight = tuning.parameters.get(name)
            unit = spread(grid.scale, weight, grid)
            code = site.quantizer(weight)
            wanted = _reference_parameter(tuning, name)
            start = code + (wanted - code).clamp(-_LATENT * unit, _LATENT * unit)
            self._units[name], self._grids[name] = unit, grid
            self._theta[name] = (start / unit).requires_grad_()
        self._log = {
            site.name: torch.zeros(site.quantizer.qparams.scale.shape, requires_grad=True)
            for site in block.scales
        }
        self._scales = {site.name: site.quantizer.qparams.scale.clone() for site in block.scales}
        self._bias = {name: tuning.parameters.get(name).clone().requires_grad_() for name in block.biases}

    def initial(self) -> dict[str, Tensor]:
        """What the block is before training."""
        return {}

    def values(self) -> dict[str, Tensor]:
        """The block's parameters and scales, by name, as functions of the trained variables."""
        found: dict[str, Tensor] = {name: theta * self._units[name] for name, theta in self._theta.items()}
        for site in self._block.scales:
            found[f"{site.path}.scale"] = self._scales[site.name] * self._log[site.name].exp()
        return found | self._bias

    def groups(self, options: ReconstructOptions, unit: float) -> list[dict[str, object]]:
        """Parameter groups for the optimizer."""
        return [
            {"params": list(self._theta.values()), "lr": options.weight_rate},
            {"params": list(self._log.values()), "lr": options.scale_rate},
            {"params": list(self._bias.values()), "lr": options.bias_rate * unit},
        ]

    def keep(self) -> None:
        """Write the trained values into the graph."""
        parameters = self._tuning.parameters
        values = {name: value.detach() for name, value in self.values().items()}
        for name, site in self._block.weights.items():
            parameters.set_weight(site, values[name], self._grids[name])
        for name in self._bias:
            parameters.set(name, values[name])
        for site in self._block.scales:
            scale, grid = values[f"{site.path}.scale"].double(), site.quantizer.qparams
            low, high = ((end - grid.zero_point) * scale for end in (grid.qmin, grid.qmax))
            parameters.set_range(site, low, high)


def _block(tuning: Tuning, segment: Segment, features: fx.Node | None) -> _Block:
    graph = segment_between(tuning.graph, segment.start, segment.end)
    by_path = {site.path: site for site in tuning.sites}
    weights: dict[str, Site] = {}
    scales: list[Site] = []
    biases: list[str] = []
    for node in graph.graph.nodes:
        site = by_path.get(str(node.target)) if node.op == "call_module" else None
        if site is not None and site.is_weight:
            weights[str(constant_name(node.args[0]))] = site
            layers = [*next(iter(node.users)).args, None]
            if constant_name(layers[2]) is not None:
                biases.append(str(constant_name(layers[2])))
        elif site is not None and site.quantizer.state is FakeQuantState.QUANTIZING and _is_plain(site):
            scales.append(site)
    end = _twin(tuning, segment.end)
    rest = None
    if features is not None and features is not end and features in _behind(end):
        rest = segment_between(tuning.reference, end, features)
    return _Block(graph, weights, scales, biases, rest)


def _is_plain(site: Site) -> bool:
    """Whether an activation has one affine scale that may be trained; a fixed range stays."""
    spec = site.spec
    return spec.granularity == "per_tensor" and spec.scheme == "uniform" and spec.observer != "fixed"


def _features(tuning: Tuning) -> fx.Node | None:
    """What the last weight layer of the float model reads."""
    layers = [n for site in tuning.sites if site.is_weight for n in site.node.users]
    last = _twin(tuning, max(layers))
    source = last.args[0]
    assert isinstance(source, fx.Node)
    return source


def _behind(node: fx.Node) -> set[fx.Node]:
    found: set[fx.Node] = set()
    frontier = [node]
    while frontier:
        for reader in frontier.pop().users:
            if reader not in found:
                found.add(reader)
                frontier.append(reader)
    return found


def _twin(tuning: Tuning, node: fx.Node) -> fx.Node:
    """The node of the same name in the float reference."""
    twin: fx.Node = next(n for n in tuning.reference.graph.nodes if n.name == node.name)
    return twin


def _reference_parameter(tuning: Tuning, name: str) -> Tensor:
    value = tuning.reference
    for part in name.split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)
    return value.detach()


@torch.no_grad()
def _apply(graph: fx.GraphModule | None, x: Tensor, chunk: int = 16) -> Tensor:
    return x if graph is None else torch.cat([graph(part) for part in torch.split(x, chunk)])


@torch.no_grad()
def _losses(block: _Block, values: dict[str, Tensor], inputs: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Mean squared error of the block's output, and of the features behind it."""
    local = feature = 0.0
    for x, y in zip(torch.split(inputs, 16), torch.split(wanted, 16), strict=True):
        output = functional_call(block.graph, values, (x,))
        error = float((output - y).square().mean())
        local += error * len(x)
        if block.rest is None:
            feature += error * len(x)
        else:
            feature += float((block.rest(output) - block.rest(y)).square().mean()) * len(x)
    return local / len(inputs), feature / len(inputs)
