from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quant.mixed.bench import Bench
from quant.mixed.sensitivity import measure
from quant.mixed.sensitivity.hessian import hessian_traces
from tests.export.small_models import images_of

MakeBench = Callable[..., Bench]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 4))


def exact_traces(model: nn.Sequential, images: Tensor) -> list[float]:
    """The trace over each weight of PyTorch's full Hessian, float64, of the KL divergence to itself."""
    model = model.double()
    images = images.double()
    p = model(images).softmax(1).detach()

    def loss(index: int) -> Callable[[Tensor], Tensor]:
        def of(weight: Tensor) -> Tensor:
            log_q = torch.func.functional_call(model, {f"{index}.weight": weight}, images).log_softmax(1)
            return (p * (p.log() - log_q)).sum(1).mean()

        return of

    traces = []
    for index in (0, 2):
        weight = model[index].weight.detach()
        matrix = torch.autograd.functional.hessian(loss(index), weight)
        traces.append(float(matrix.reshape(weight.numel(), weight.numel()).trace()))
    return traces


def test_hutchinson_finds_the_trace(make_bench: MakeBench) -> None:
    images = images_of(8, 6)
    bench = make_bench(network(), images, batch=8, probes=200)
    sites = [site for group in bench.groups for site in group.sites if site.is_weight]

    found = list(hessian_traces(bench, sites).values())

    # Seeded. The spread of the mean of 200 probes is about 5 % here.
    np.testing.assert_allclose(found, exact_traces(network(), images), rtol=0.15)


def test_is_the_mean_trace_times_the_squared_weight_error(make_bench: MakeBench) -> None:
    model, images = network(), images_of(8, 6)
    bench = make_bench(model, images, probes=4, seed=3)
    table = measure(bench, ["hessian"])["hessian"].omega
    sites = [site for group in bench.groups for site in group.sites if site.is_weight]
    traces = list(hessian_traces(bench, sites).values())
    for row, layer in enumerate((model[0], model[2])):
        weight = layer.weight.detach().double()
        for column, bits in enumerate(bench.bits):
            levels = 2 ** (bits - 1) - 1
            scale = weight.abs().amax(1, keepdim=True) / levels  # the simple recipe's min-max range
            error = float(((weight / scale).round() * scale - weight).square().sum())
            # float32 against float64 on the border of two codes would show; there is none here.
            assert table[row, column] == pytest.approx(traces[row] / weight.numel() * error, rel=1e-4)
