import pytest
import torch
from torch.func import functional_call

from quant.calibrate import calibrate
from quant.encoding import Encoding, freeze
from quant.graph import capture
from quant.recipe import Recipe
from quant.tuning.model import Tuning
from quant.tuning.parameters import TunedParameters
from quant.tuning.trainable import Trainable
from tests.export.small_models import images_of, simple_recipe, tiny_vit


@pytest.fixture(params=[{"granularity": "per_channel"}, {"granularity": "per_group", "group_size": 8}])
def tuning(request):
    images = images_of(8, 3, 32, 32)
    graph = capture(tiny_vit().eval(), images[:2])
    plain = simple_recipe(activation={"bits": 4}, weight={"bits": 4} | request.param)
    calibrated = calibrate(
        graph, Recipe.model_validate(plain.model_dump()), lambda n: torch.split(images[:n], 8)
    )
    freeze(calibrated, Encoding())
    parameters = TunedParameters(calibrated.graph, calibrated.changes)
    return Tuning(
        calibrated.graph, calibrated.reference, calibrated.sites, parameters, [images], 0, lambda *_: None
    )


def move(learned: Trainable, amount: float = 0.3) -> None:
    generator = torch.Generator().manual_seed(1)
    for group in (learned.codes, learned.gains, learned.log_scales, learned.biases):
        assert group
        for value in group.values():
            value.data += amount * (torch.rand(value.shape, generator=generator) - 0.5)


def test_training_starts_at_the_quantized_model_itself(tuning):
    learned, (images,) = Trainable(tuning, tuning.graph), tuning.batches
    with torch.no_grad():
        now = functional_call(tuning.graph, learned.values(), (images,))
        torch.testing.assert_close(now, tuning.graph(images), rtol=1e-5, atol=1e-5)  # s (w / s) is not w


def test_what_was_trained_is_what_is_kept(tuning):
    learned, (images,) = Trainable(tuning, tuning.graph), tuning.batches
    with torch.no_grad():
        before = tuning.graph(images)
        move(learned)
        wanted = functional_call(tuning.graph, learned.values(), (images,))
        learned.keep(learned.state())
        kept = tuning.graph(images)
    assert not torch.allclose(before, wanted, rtol=0.1, atol=0.01)
    # Activation scales are derived from ranges in float64: equal but for the last bit, a code here and there.
    assert float((kept - wanted).square().mean()) < 1e-4 * float((before - wanted).square().mean())


def test_the_gradient_of_a_weight_scale_is_that_of_scaling_its_weights(tuning):
    learned, (images,) = Trainable(tuning, tuning.graph), tuning.batches
    values = learned.values()
    (weight,) = (name for name in learned.codes if name.endswith("fc1.weight"))
    (scale,) = (name for name in learned.gains if name.endswith("scale") and "fc1" in name)
    by_weight, by_gain = torch.autograd.grad(
        functional_call(tuning.graph, values, (images,)).square().sum(),
        (values[weight], learned.gains[scale]),
    )
    wanted = (by_weight * values[weight]).sum() / 7  # 4 bits: the highest code
    torch.testing.assert_close(by_gain.sum(), wanted, rtol=1e-4, atol=1e-4)
