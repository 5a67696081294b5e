import torch
from torch import Tensor, nn

from quant.mixed.groups import find_groups
from quant.mixed.settings import Operands
from tests.export.small_models import calibrated_of, images_of, simple_recipe, small_cnn, tiny_vit


class Branches(nn.Module):
    """Two layers read one tensor; a third one is called twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right, self.twice = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.left(x)) * self.right(x)
        y: Tensor = self.twice(torch.tanh(self.twice(x)))
        return y


def test_every_layer_of_a_vit_is_a_group_in_order() -> None:
    _, calibrated = calibrated_of(tiny_vit(), images_of(4, 3, 32, 32), simple_recipe())
    groups = find_groups(calibrated)
    block = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    expected = ["patch_embed.proj", *(f"blocks.0.{name}" for name in block), "head"]
    assert [group.name for group in groups] == expected
    qkv = groups[1]
    assert qkv.weights == 48 * 144
    assert set(qkv.places) == {(qkv.name, "linear.input"), (qkv.name, "linear.weight")}
    assert groups[0].places[0][1] == "patch_conv.input"


def test_layers_that_share_an_input_or_a_weight_get_one_width() -> None:
    _, calibrated = calibrated_of(Branches(), images_of(8, 6), simple_recipe())
    tied, twice = find_groups(calibrated)
    assert tied.layers == ("left", "right")
    assert tied.name == "left + right"
    assert tied.weights == 72
    assert sorted(site.name for site in tied.sites) == ["left.input", "left.weight", "right.weight"]
    assert ("right", "linear.input") in tied.places
    assert twice.layers == ("twice",)
    assert len(twice.nodes) == 2
    assert twice.weights == 36, "shared weights count once"


def test_weights_alone_are_not_tied_by_their_input() -> None:
    _, calibrated = calibrated_of(Branches(), images_of(8, 6), simple_recipe())
    groups = find_groups(calibrated, Operands.WEIGHTS)
    assert [group.name for group in groups] == ["left", "right", "twice"]
    assert all(role == "linear.weight" for group in groups for _, role in group.places)


def test_weights_and_inputs_can_be_groups_of_their_own() -> None:
    _, calibrated = calibrated_of(Branches(), images_of(8, 6), simple_recipe())
    groups = {group.name: group for group in find_groups(calibrated, Operands.SEPARATE)}
    inputs = "twice.input + twice.input_2"
    assert list(groups) == ["left.input", "left.weight", "right.weight", inputs, "twice.weight"]
    assert groups["left.input"].layers == ("left", "right"), "both read it"
    assert (groups["left.input"].weights, groups["left.input"].parameters) == (0, 72)
    assert (groups["left.weight"].weights, groups["left.weight"].parameters) == (36, 36)


def test_an_output_that_is_the_next_input_belongs_to_the_reader() -> None:
    # The convolution's quantized output behind its ReLU is what the next convolution reads: one tensor.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten())
    _, calibrated = calibrated_of(model, images_of(4, 3, 8, 8), simple_recipe())
    first, second = find_groups(calibrated)
    assert ("0", "conv.output") not in first.places
    assert {("0", "conv.output"), ("2", "conv.input"), ("2", "conv.weight")} == set(second.places)


def test_convolutions_are_found() -> None:
    _, calibrated = calibrated_of(small_cnn(), images_of(4, 3, 8, 8), simple_recipe())
    assert [group.name for group in find_groups(calibrated)] == ["stem", "conv", "fc"]
