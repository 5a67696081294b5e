"""Rotate a transformer's residual stream so that no channel stands out: offline, exact, nothing at run time.

With an orthogonal R and every writer of the stream x multiplied by it, the stream becomes x R. Let γ, β be
the parameters of a LayerNorm and LN₀ the normalization without them. R is chosen with R 1 = 1, so that the
mean over channels stays what it is, LN₀(x R) = LN₀(x) R, and the operator stays a whole LayerNorm::

    writers (patches, tokens, positions, proj, fc2):   W ← Rᵀ W,  b ← b R
    LayerNorm:                                         γ ← 1,  β ← 0
    readers (qkv, fc1, head):                          W ← W diag(γ) R,  b ← b + W β

R = G H D: a Hadamard matrix H of ±1/√C with seeded random column signs D spreads every channel over all
others; the reflection G takes H D 1 back to 1.

Source: QuaRot (Ashkboos et al. 2024, section 4) after SliceGPT (Ashkboos et al. 2024, section 3.2), which
turns LayerNorm into RMSNorm; the reflection that makes this unnecessary is ours.
"""

from collections.abc import Collection

import torch
from torch import Tensor, fx

from quant.errors import BadInput
from quant.graph.nodes import constant_name, tensor_of
from quant.graph.parameters import update_parameter
from quant.graph.stream import ResidualStream, find_stream
from quant.methods.registry import MethodNote, MethodOptions, register_method
from quant.methods.statistics import Statistics
from quant.recipe import Recipe

__all__ = ["Hadamard", "HadamardOptions", "hadamard_matrix", "rotation"]

NAME = "hadamard"
_PALEY_PRIMES = (11, 19, 23)


class HadamardOptions(MethodOptions):
    """Options.

    Attributes:
        seed: of the signs.
    """

    seed: int = 0


@register_method(NAME, HadamardOptions)
class Hadamard:
    """The method, see the module's text."""

    renews_statistics = True

    def __init__(self, options: HadamardOptions) -> None:
        self._options = options

    def watched(self, graph: fx.GraphModule) -> Collection[fx.Node]:
        """Nothing."""
        del graph
        return ()

    def apply(self, graph: fx.GraphModule, seen: Statistics, recipe: Recipe) -> list[MethodNote]:
        """Rotate the stream, or say what stands against it."""
        del seen, recipe
        stream = find_stream(graph)
        if isinstance(stream, str):
            return [MethodNote(NAME, "residual stream", False, stream)]
        try:
            matrix = rotation(stream.channels, self._options.seed)
        except BadInput as error:
            return [MethodNote(NAME, "residual stream", False, str(error))]
        _rotate(graph, stream, matrix)
        text = (
            f"{stream.channels} channels rotated; {len(stream.writers)} writers and "
            f"{len(stream.constants)} constants, {len(stream.norms)} LayerNorms folded"
        )
        return [MethodNote(NAME, "residual stream", True, text)]


def _rotate(graph: fx.GraphModule, stream: ResidualStream, matrix: Tensor) -> None:
    for constant, axis in stream.constants:
        update_parameter(graph, constant, lambda t, axis=axis: _turn(t, matrix, axis))  # type: ignore[misc]
    for writer in stream.writers:
        for parameter in writer.args[1:3]:
            if constant_name(parameter) is not None:
                update_parameter(graph, parameter, lambda t: _turn(t, matrix, 0))
    for norm, linears in stream.norms:
        gamma, beta = (tensor_of(graph, str(constant_name(p))).double() for p in norm.args[2:4])
        for linear in linears:
            weight = tensor_of(graph, str(constant_name(linear.args[1]))).double()
            update_parameter(graph, linear.args[2], lambda b, w=weight, beta=beta: b + w @ beta)  # type: ignore[misc]
            update_parameter(
                graph,
                linear.args[1],
                lambda w, gamma=gamma: (w * gamma) @ matrix,  # type: ignore[misc]
            )
        update_parameter(graph, norm.args[2], torch.ones_like)
        update_parameter(graph, norm.args[3], torch.zeros_like)


def _turn(tensor: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """``x R`` along one axis."""
    return (tensor.movedim(axis, -1) @ matrix).movedim(-1, axis)


def rotation(size: int, seed: int) -> Tensor:
    """R = G H D, orthogonal, with R 1 = 1.

    >>> r = rotation(24, seed=0)
    >>> bool(torch.allclose(r @ r.T, torch.eye(24, dtype=r.dtype)))
    True
    >>> bool(torch.allclose(r.sum(1), torch.ones(24, dtype=r.dtype)))
    True

    Returns:
        [size, size], float64.

    Raises:
        BadInput: there is no Hadamard matrix of that size here.
    """
    signs = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1.0
    spread: Tensor = hadamard_matrix(size) * signs.double() / size**0.5  # H D
    ones = torch.full((size,), size**-0.5, dtype=torch.float64)
    normal = spread @ ones - ones  # of the mirror that takes H D 1 to 1
    if float(normal.norm()) < 1e-9:
        return spread
    normal = normal / normal.norm()
    reflected: Tensor = spread - 2.0 * torch.outer(normal, normal @ spread)
    return reflected


def hadamard_matrix(size: int) -> Tensor:
    """A matrix of ±1 with orthogonal rows: Sylvester's doubling of a Paley matrix of order 1, 12, 20 or 24.

    Returns:
        [size, size], float64.

    Raises:
        BadInput: the size is not such an order times a power of two.
    """
    for prime in (None, *_PALEY_PRIMES):
        core = 1 if prime is None else prime + 1
        doublings = size // core
        if size % core == 0 and doublings & (doublings - 1) == 0:
            matrix = torch.ones(1, 1, dtype=torch.float64) if prime is None else _paley(prime)
            while len(matrix) < size:
                matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
            return matrix
    raise BadInput(
        f"{size} channels: no Hadamard matrix of this size is known here (1, 12, 20, 24 times 2^k)"
    )


def _paley(prime: int) -> Tensor:
    """Paley's first construction, for primes of the form 4 k + 3."""
    squares = {i * i % prime for i in range(1, prime)}
    character = torch.tensor([0.0] + [1.0 if i in squares else -1.0 for i in range(1, prime)])
    index = torch.arange(prime)
    jacobsthal = character[(index[:, None] - index[None, :]) % prime]
    skew = torch.zeros(prime + 1, prime + 1)
    skew[0, 1:], skew[1:, 0], skew[1:, 1:] = 1.0, -1.0, jacobsthal
    return (torch.eye(prime + 1) + skew).double()
