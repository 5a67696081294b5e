from torch import Tensor, nn

from quant.mixed.units import find_units
from quant.models.cifar_resnet import resnet20
from tests.export.small_models import calibrated_of, images_of, simple_recipe, tiny_vit
from tests.quant.mixed.test_groups import Branches


class Merge(nn.Module):
    """Two convolutions whose outputs are added."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.left(x) + self.right(x * 2.0)).flatten(1)


def layers(model: nn.Module, *shape: int, **changes: object) -> list[tuple[str, ...]]:
    _, calibrated = calibrated_of(model, images_of(4, *shape), simple_recipe(**changes))
    units = find_units(calibrated)
    sites = [site.name for unit in units for site in unit.sites]
    assert sorted(sites) == sorted(site.name for site in calibrated.sites), "each site is in one unit"
    return [unit.layers for unit in units]


def test_every_linear_layer_of_a_vit_stands_alone() -> None:
    block = [(f"blocks.0.{name}",) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    assert layers(tiny_vit(), 3, 32, 32) == [("patch_embed.proj",), *block, ("head",)]


def test_convolutions_that_pass_codes_on_are_one_unit() -> None:
    found = layers(resnet20(), 3, 32, 32)
    # The stem's codes are also what the first block reads; behind each sum the codes begin anew.
    assert found[0] == ("conv1", "layer1.0.conv1", "layer1.0.conv2")
    assert found[1:3] == [("layer1.1.conv1", "layer1.1.conv2"), ("layer1.2.conv1", "layer1.2.conv2")]
    assert found[-1] == ("linear",)
    assert len(found) == 10


def test_without_outputs_in_codes_every_convolution_stands_alone() -> None:
    found = layers(resnet20(), 3, 32, 32, roles={})
    assert ("layer1.1.conv1",) in found
    assert ("layer1.1.conv2",) in found


def test_layers_that_share_an_input_are_one_unit_and_a_layer_called_twice_too() -> None:
    assert layers(Branches(), 6) == [("left", "right"), ("twice",)]


def test_outputs_that_meet_in_a_float_sum_do_not_tie_their_layers() -> None:
    assert layers(Merge(), 3, 8, 8) == [("left",), ("right",)]
    # Where the sum itself is to be quantized, it needs the codes of both.
    tied = layers(Merge(), 3, 8, 8, roles={"conv.output": "input", "conv_add.input": "input"})
    assert [set(unit) for unit in tied] == [{"left", "right"}]


def test_weights_are_counted() -> None:
    _, calibrated = calibrated_of(tiny_vit(), images_of(4, 3, 32, 32), simple_recipe())
    assert {unit.name: unit.weights for unit in find_units(calibrated)}["blocks.0.attn.qkv"] == 48 * 144
