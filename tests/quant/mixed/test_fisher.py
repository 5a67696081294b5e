from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from quant.mixed.bench import Bench
from quant.mixed.sensitivity import measure
from tests.export.small_models import images_of

MakeBench = Callable[..., Bench]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))


def quantized(x: Tensor, scale: float, zero: int, bits: int, signed: bool) -> Tensor:
    low = -(2 ** (bits - 1)) + 1 if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    return (torch.clamp(torch.round(x / scale) + zero, low, high) - zero) * scale


def errors_and_jacobians(model: nn.Sequential, bench: Bench, image: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Of one image and each layer: the error of its output at 4 bits, and ∂ log p / ∂ output [K, C]."""
    first, act, second = model
    inputs = [image, act(first(image))]
    rest: list[Callable[[Tensor], Tensor]] = [
        lambda o: second(act(o)).log_softmax(0),
        lambda o: o.log_softmax(0),
    ]
    found = []
    for group, layer, x, tail in zip(bench.groups, (first, second), inputs, rest, strict=True):
        values = {}
        for site in group.sites:
            q = bench.formats.qparams(site, 4)
            assert q is not None
            if site.is_weight:
                rows = zip(layer.weight, q.scale.tolist(), strict=True)
                values["weight"] = torch.stack([quantized(w, s, 0, 4, True) for w, s in rows])
            else:
                values["input"] = quantized(x, float(q.scale), int(q.zero_point), 4, False)
        error = values["weight"] @ values["input"] + layer.bias - layer(x)
        jacobian = torch.autograd.functional.jacobian(tail, layer(x).detach())
        found.append((error.detach(), jacobian))
    return found


def test_equals_a_loop_over_images_labels_and_elements(make_bench: MakeBench) -> None:
    model, images, draws = network(), images_of(6, 6), 3
    bench = make_bench(model, images, batch=6, probes=draws, seed=5)
    measured = measure(bench, ["fisher", "fisher_full"])

    probabilities = model(images).softmax(1).detach()
    generator = torch.Generator().manual_seed(5)
    labels = torch.multinomial(probabilities, draws, replacement=True, generator=generator)
    diagonal, full = np.zeros(2), np.zeros(2)
    for n, image in enumerate(images):
        for row, (error, jacobian) in enumerate(errors_and_jacobians(model, bench, image)):
            for k in labels[n].tolist():
                diagonal[row] += 0.5 * sum(float(g * e) ** 2 for g, e in zip(jacobian[k], error, strict=True))
                full[row] += 0.5 * float(jacobian[k] @ error) ** 2

    count = len(images) * draws
    # float32 throughout: 1e-4 is a hundred roundings.
    np.testing.assert_allclose(measured["fisher"].omega[:, 0], diagonal / count, rtol=1e-4)
    np.testing.assert_allclose(measured["fisher_full"].omega[:, 0], full / count, rtol=1e-4)


def test_with_all_cross_terms_it_is_the_kl_divergence_for_small_errors(make_bench: MakeBench) -> None:
    bench = make_bench(network(), images_of(256, 6), bits=(8,), batch=256, probes=60)
    tables = measure(bench, ["fisher_full", "kl"])
    # Seeded. The spread of 15,360 drawn squares is 1 to 2 %, and the third order of an 8-bit error is less.
    np.testing.assert_allclose(tables["fisher_full"].omega, tables["kl"].omega, rtol=0.06)


def test_is_reproducible_and_depends_on_the_seed(make_bench: MakeBench) -> None:
    images = images_of(4, 6)
    tables = [
        measure(make_bench(network(), images, probes=1, seed=seed), ["fisher"])["fisher"]
        for seed in (1, 1, 2)
    ]
    assert tables[0] == tables[1]
    assert not np.allclose(tables[0].omega, tables[2].omega)
