import pytest
import torch

from benchmarks.bars.ablation import ablate, parts_of, untrained
from quant.encoding import Encoding, freeze
from quant.kernels import fake_quantize
from quant.recipe import Recipe, load_recipe
from tests.quant.methods.small_vit import calibrated, images, recipe, small_vit, sqnr

METHODS = ({"name": "gptq"}, {"name": "bias_correction"})


def losses():
    found = calibrated(small_vit(), recipe(*METHODS, weight={"bits": 3}))
    return found, ablate(found, torch.split(images(32, seed=7), 8))


def test_everything_is_the_calibrated_model_and_stays_so() -> None:
    found, (everything, *_) = losses()
    after = found.graph(images(32, seed=7)).double()
    freeze(found, Encoding())
    own = found.graph(images(32, seed=7)).double()
    torch.testing.assert_close(after, own, rtol=0, atol=0)
    # the float graph of the methods differs from the model by float32 rounding
    assert everything.sqnr == pytest.approx(sqnr(own, small_vit()(images(32, seed=7))), abs=1e-3)
    assert everything.share == 1.0
    assert everything.sites == len(found.sites)


def test_a_part_is_quantized_alone_in_the_float_model() -> None:
    found, table = losses()
    (loss,) = [loss for loss in table if loss.part == "weights of head"]
    (site,) = [site for site in found.weight_sites() if site.layer == "head"]
    grid = site.quantizer.qparams
    weight, model = found.changes.parameters["head.weight"], small_vit()
    assert not torch.equal(found.changes.parameters["head.bias"], model.head.bias)
    x = images(32, seed=7)
    with torch.no_grad():
        features = model.norm(model.block(x))[:, 0]
        wanted, got = model.head(features), features @ fake_quantize(weight, grid, "w").T + model.head.bias
    assert loss.sqnr == pytest.approx(sqnr(got, wanted), abs=1e-2)
    assert loss.sites == 1


def test_every_site_is_in_one_part_of_each_partition() -> None:
    found, _ = losses()
    parts = parts_of(found.sites)
    sizes = {name: len(sites) for name, sites in parts.items()}
    assert sizes["weights"] + sizes["inputs"] == sizes["everything"]
    kinds = [n for name, n in sizes.items() if " of " in name]
    rest = [n for name, n in sizes.items() if " of " not in name]
    assert sum(kinds) == sizes["everything"]
    assert sum(rest) - 2 * sizes["everything"] == sizes["everything"]


def test_only_training_is_left_out() -> None:
    shipped: Recipe = load_recipe("w4a8")
    names = [method.name for method in shipped.methods]
    assert [method.name for method in untrained(shipped).methods] == names[:-1]
    assert names[-1] == "fine_tune"
