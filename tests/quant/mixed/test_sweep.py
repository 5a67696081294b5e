from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div

from quant.errors import BadInput
from quant.mixed.bench import Bench
from quant.mixed.sensitivity import measure, metric_names
from quant.mixed.sensitivity.kl import kl
from quant.mixed.sensitivity.output_l2 import output_l2, output_l2_squared
from quant.mixed.sensitivity.sqnr import noise_to_signal
from tests.export.small_models import images_of, small_cnn, tiny_vit

MakeBench = Callable[..., Bench]


def whole_passes(bench: Bench, background: bool) -> np.ndarray:
    """Mean squared L2 of every cell from passes through the whole graph."""
    table = np.zeros((len(bench.groups), len(bench.bits)))
    images = torch.cat(list(bench.images))
    bench.formats.all_float()
    with torch.no_grad():
        expected = bench.graph(images).double()
        for row, group in enumerate(bench.groups):
            for column, bits in enumerate(bench.bits):
                if background:
                    bench.formats.set_all({g.name: 8 for g in bench.groups})
                bench.formats.set_group(group.name, bits)
                error = bench.graph(images).double() - expected
                table[row, column] = float((error**2).sum(1).mean())
                bench.formats.all_float()
    return table


@pytest.mark.parametrize("background", [False, True], ids=["float", "8-bit"])
@pytest.mark.parametrize("model", ["vit", "cnn"])
def test_resumed_passes_equal_whole_ones(make_bench: MakeBench, model: str, background: bool) -> None:
    built, size = (tiny_vit(), 32) if model == "vit" else (small_cnn(), 8)
    bench = make_bench(built, images_of(6, 3, size, size), bits=(4, 8))
    if background:
        names = {group.name: 8 for group in bench.groups}
        bench = Bench(bench.graph, bench.groups, (4, 8), bench.formats, bench.images, background=names)

    table = measure(bench, ["output_l2_squared"])["output_l2_squared"]

    # The same operations on other batch sizes: float32 sums in another order, here 1e-5 of the output.
    np.testing.assert_allclose(table.omega, whole_passes(bench, background), rtol=1e-3, atol=1e-9)
    assert (table.omega[:, 0] > table.omega[:, 1]).all(), "4 bits lose more than 8"
    assert table.groups == tuple(group.name for group in bench.groups)
    assert (table.images, table.bits) == (6, (4, 8))
    assert table.of(bench.groups[1].name, 8) == table.omega[1, 1]


def test_float_loses_nothing(make_bench: MakeBench) -> None:
    bench = make_bench(small_cnn(), images_of(4, 3, 8, 8), bits=(6, 16), probes=4)
    for name, table in measure(bench, metric_names()).items():
        assert (table.omega[:, 1] == 0).all(), name
        if name != "hessian":  # its few probes can cancel
            assert (table.omega[:, 0] > 0).all(), name


def test_measuring_leaves_everything_in_float(make_bench: MakeBench) -> None:
    bench = make_bench(small_cnn(), images_of(4, 3, 8, 8), probes=1)
    with torch.no_grad():
        before = bench.graph(bench.images[0])
        measure(bench, metric_names())
        assert torch.equal(bench.graph(bench.images[0]), before)
    assert not any(p.requires_grad for p in bench.graph.parameters())


def test_unknown_metric_is_named(make_bench: MakeBench) -> None:
    bench = make_bench(small_cnn(), images_of(4, 3, 8, 8))
    with pytest.raises(BadInput, match=r"'kll' \(did you mean 'kl'\?\); known: fisher"):
        measure(bench, ["kll"])


def test_scores_are_what_they_are_called() -> None:
    y, z = images_of(5, 7).double(), images_of(5, 7, seed=2).double()
    divergence = kl_div(z.log_softmax(1), y.softmax(1), reduction="none").sum(1)
    torch.testing.assert_close(kl(y, z), divergence)
    torch.testing.assert_close(output_l2(y, z), torch.linalg.vector_norm(y - z, dim=1))
    torch.testing.assert_close(output_l2_squared(y, z), torch.cdist(y, z).diagonal() ** 2)
    decibels = 20 * torch.log10(y.norm(dim=1) / (y - z).norm(dim=1))
    torch.testing.assert_close(-10 * torch.log10(noise_to_signal(y, z)), decibels)
