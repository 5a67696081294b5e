from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from quant.mixed.bench import Bench
from quant.mixed.sensitivity import measure
from quant.mixed.sensitivity.nuclear_norm import nuclear_norms
from tests.export.small_models import images_of

MakeBench = Callable[..., Bench]


def test_equals_numpy_on_the_layer_alone(make_bench: MakeBench) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
    images = images_of(3, 7, 6)  # 7 tokens
    bench = make_bench(model, images, bits=(4,))

    found = measure(bench, ["nuclear_norm"])["nuclear_norm"].omega

    with torch.no_grad():
        inputs = [images, model[1](model[0](images))]
        for row, (group, x, layer) in enumerate(zip(bench.groups, inputs, (model[0], model[2]), strict=True)):
            values = {}
            for site, value in ((s, layer.weight if s.is_weight else x) for s in group.sites):
                bench.formats.set_group(group.name, 4)
                values[site.is_weight] = site.quantizer(value)
            output = layer(x).double().numpy()
            changed = nn.functional.linear(values[False], values[True], layer.bias).double().numpy()
            expected = np.mean(
                [
                    np.linalg.norm(y, ord="nuc") * np.linalg.norm(z - y) ** 2
                    for y, z in zip(output, changed, strict=True)
                ]
            )
            np.testing.assert_allclose(found[row, 0], expected, rtol=1e-4)  # float32 layers


def test_features_become_matrices() -> None:
    tokens, maps = images_of(2, 5, 3), images_of(2, 3, 4, 4)
    for output, matrices in [(tokens, tokens), (maps, maps.reshape(2, 3, 16)), (tokens[:, 0], tokens[:, :1])]:
        expected = [np.linalg.norm(m, ord="nuc") for m in matrices.double().numpy()]
        np.testing.assert_allclose(nuclear_norms(output).numpy(), expected)
