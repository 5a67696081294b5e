import torch
from torch import nn

from quant.graph import capture
from quant.roles import ROLES, find_places

VIEW = dict[str, list[str]]


def roles(model: nn.Module, *shape: int) -> VIEW:
    """Role to the names of its places."""
    torch.manual_seed(0)
    found: VIEW = {}
    for place in find_places(capture(model.eval(), torch.randn(2, *shape))):
        assert place.role in ROLES
        found.setdefault(place.role, []).append(place.name)
    return found


class Block(nn.Module):
    """A transformer's MLP block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc1, self.act, self.fc2 = (
            nn.LayerNorm(8),
            nn.Linear(8, 16),
            nn.GELU(),
            nn.Linear(16, 8),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(self.act(self.fc1(self.norm(x))))


class Residual(nn.Module):
    """A CNN's block; ``norm`` puts a LayerNorm into the branch, as in ConvNeXt."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.stem, self.conv1 = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.LayerNorm(6) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return (x + self.conv2(self.norm(self.conv1(x).relu()))).relu()


def test_a_transformer_block_has_all_its_roles():
    found = roles(Block(), 5, 8)
    assert found["linear.input"] == ["fc1.input", "fc2.input"]
    assert found["linear.weight"] == ["fc1.weight", "fc2.weight"]
    assert found["linear.output"] == ["fc1.output", "fc2.output"]
    assert len(found["residual_add.input"]) == 2
    assert "conv_add.input" not in found
    assert found["layer_norm.input"] == ["norm.layer_norm_input"]
    assert found["gelu.input"] == ["act.gelu_input"]


def test_a_cnn_shortcut_is_one_and_a_normalized_branch_is_a_stream():
    assert len(roles(Residual(norm=False), 3, 6, 6)["conv_add.input"]) == 2
    found = roles(Residual(norm=True), 3, 6, 6)
    assert "conv_add.input" not in found
    assert len(found["residual_add.input"]) == 2


def test_the_output_of_a_convolution_is_behind_its_relu():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Conv2d(4, 4, 3), nn.GELU()).eval()
    graph = capture(model, torch.randn(2, 3, 8, 8))
    outputs = [p.value.name for p in find_places(graph) if p.role == "conv.output"]
    assert outputs[0].startswith(("relu6", "hardtanh"))
    assert outputs[1].startswith("conv2d")


def test_patch_convolutions_are_those_that_tile():
    def kind(**options) -> str:
        (role,) = {r for r in roles(nn.Conv2d(4, 4, **options), 4, 8, 8) if r.endswith("weight")}
        return role

    assert kind(kernel_size=4, stride=4) == "patch_conv.weight"
    assert kind(kernel_size=2, stride=2, groups=2) == "conv.weight"
    assert kind(kernel_size=3, stride=2) == "conv.weight"
    assert kind(kernel_size=1) == "conv.weight"
    assert kind(kernel_size=2, stride=2, padding=1) == "conv.weight"
    assert kind(kernel_size=2, stride=2, dilation=2) == "conv.weight"


def test_position_embeddings_and_masks_are_no_residual_additions():
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position, self.fc = nn.Parameter(torch.zeros(1, 5, 8)), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x * 2 + self.position)

    assert set(roles(Embedded(), 5, 8)) == {"linear.input", "linear.weight", "linear.output"}


def test_a_layer_called_twice_has_two_names():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.fc(x).tanh())

    assert roles(Twice(), 8)["linear.input"] == ["fc.input", "fc.input_2"]


def test_a_product_with_a_parameter_is_no_attention():
    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x @ self.weight).softmax(-1)

    assert set(roles(Scores(), 5, 8)) == {"softmax.input"}


def test_computed_weights_are_left_alone():
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight * 2)

    assert roles(Computed(), 5, 8) == {}
