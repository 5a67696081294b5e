"""Block-wise reconstruction: train each block's weights and scales to give the float block's output.

Block by block in forward order, with ŷ the quantized block on what the quantized blocks before it give, y the
float block's output, g the rest of the float model up to the features in front of its last layer, and d the
relative error in which every token counts the same (:mod:`quant.tuning.distance`)::

    first    L = 2 d(ŷ, y) / d(ŷ₀, y)
    then     L = 2 d(ŷ, y) / d(ŷ₀, y) + d(g(ŷ), g(y)) / d(g(ŷ₀), g(y))

(ŷ₀: before training.) Weights, scales, biases and LayerNorm's gains are trained through straight-through
gradients (see :mod:`quant.tuning.trainable`), with Adam and a cosine schedule. One part of the images is held
out; a block whose loss on them did not become smaller is left as it was.

Source: BRECQ (Li et al. 2021, section 3) for the block-wise form; the loss and the straight-through training
of weights follow GLF-Q (2026, section 3); the guard is that of SynFIM-Q.
"""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, fx
from torch.func import functional_call

from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.tuning.blocks import blocks_of, twin
from quant.tuning.device import training_device, working_on
from quant.tuning.distance import relative_error, typical_size
from quant.tuning.model import Tuning
from quant.tuning.segments import Segment, segment_between
from quant.tuning.trainable import Trainable
from quant.tuning.training import Training

__all__ = ["Reconstruct", "ReconstructOptions"]

NAME = "reconstruct"


class ReconstructOptions(MethodOptions):
    """Options.

    Attributes:
        iterations: steps per block with the block's own loss.
        feature_iterations: steps per block after them with the loss of the features, too.
        batch: images per step.
        weight_rate: learning rate of weights, in codes.
        scale_rate: learning rate of the logarithm of activation scales.
        bias_rate: learning rate of biases, in units of the typical error of the block's output.
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
        rest: the float model from the block's output to the features, None where there is nothing between.
    """

    graph: fx.GraphModule
    rest: fx.GraphModule | None


@register_method(NAME, ReconstructOptions)
class Reconstruct:
    """The method, see the module's text."""

    def __init__(self, options: ReconstructOptions) -> None:
        self._options = options

    def tune_model(self, tuning: Tuning) -> list[MethodNote]:
        """Train all blocks, in order."""
        found = blocks_of(tuning)
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
                segment_between(tuning.reference, twin(tuning, start), twin(tuning, segment.start))
                if between is not None
                else None
            )
            quantized = _apply(between, quantized)
            floating = _apply(float_between, floating)
            twin_start, twin_end = twin(tuning, segment.start), twin(tuning, segment.end)
            wanted = _apply(segment_between(tuning.reference, twin_start, twin_end), floating)
            block = _block(tuning, segment, features)
            if not self._options.blocks or segment.name in self._options.blocks:
                notes.append(self._train(tuning, segment, block, quantized, wanted))
            # Cut anew: the block that was trained still holds the parameters from before.
            quantized = _apply(segment_between(tuning.graph, segment.start, segment.end), quantized)
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
        device = training_device()
        with working_on(device, [part for part in (block.graph, block.rest) if part is not None]):
            x, y = inputs.to(device), wanted.to(device)
            learned = Trainable(tuning, block.graph)
            before = _losses(block, {}, x[judges], y[judges])
            start = _losses(block, learned.values(), x[train][:64], y[train][:64])
            bias_rate = options.bias_rate * start[0] ** 0.5 * typical_size(y[train][:64])
            steps = options.iterations + options.feature_iterations
            groups = learned.groups(options.weight_rate, options.scale_rate, bias_rate)
            training = Training(groups, steps, warm_up=0.0)
            for step in range(steps):
                picked = train[torch.randint(len(train), (options.batch,), generator=generator)]
                output = functional_call(block.graph, learned.values(), (x[picked],))
                loss = 2.0 * relative_error(output, y[picked]) / start[0]
                if step >= options.iterations and block.rest is not None:
                    with torch.no_grad():
                        target = block.rest(y[picked])
                    loss = loss + relative_error(block.rest(output), target) / start[1]
                training.step(loss)
            after = _losses(block, learned.values(), x[judges], y[judges])
            state = learned.state()
        shares = [a / b if b else 1.0 for a, b in zip(after, before, strict=True)]
        text = f"held-out error {shares[0]:.3f} of before, features {shares[1]:.3f}"
        if not (shares[1] < 1.0 and shares[0] < 1.25):
            return MethodNote(NAME, segment.name, False, f"{text}: left as it was")
        learned.keep(state)
        return MethodNote(NAME, segment.name, True, text)


def _block(tuning: Tuning, segment: Segment, features: fx.Node) -> _Block:
    end = twin(tuning, segment.end)
    rest = None
    if features is not end and features in _behind(end):
        rest = segment_between(tuning.reference, end, features)
    return _Block(segment_between(tuning.graph, segment.start, segment.end), rest)


def _features(tuning: Tuning) -> fx.Node:
    """What the last weight layer of the float model reads."""
    layers = [n for site in tuning.sites if site.is_weight for n in site.node.users]
    last = twin(tuning, max(layers))
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


@torch.no_grad()
def _apply(graph: fx.GraphModule | None, x: Tensor, chunk: int = 16) -> Tensor:
    return x if graph is None else torch.cat([graph(part) for part in torch.split(x, chunk)])


@torch.no_grad()
def _losses(block: _Block, values: dict[str, Tensor], inputs: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Relative error of the block's output, and of the features behind it."""
    local = feature = 0.0
    for x, y in zip(torch.split(inputs, 16), torch.split(wanted, 16), strict=True):
        output = functional_call(block.graph, values, (x,))
        error = float(relative_error(output, y))
        local += error * len(x)
        if block.rest is None:
            feature += error * len(x)
        else:
            feature += float(relative_error(block.rest(output), block.rest(y))) * len(x)
    return local / len(inputs), feature / len(inputs)
