"""The census against PyTorch's own operation counter, the ONNX audit, and published counts."""

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from deploy.audit import audit_model
from export.onnx_export import export_float
from export.settings import ExportSettings
from quant.census import LayerCount, LayerKind, take_census
from quant.errors import Unsupported
from quant.graph import capture
from quant.roles import find_places


def census_of(model: nn.Module, *shape: int, batch: int = 2, dynamic: bool = True) -> tuple[LayerCount, ...]:
    return take_census(capture(model.eval(), torch.randn(batch, *shape), dynamic))


def small_vit() -> nn.Module:
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=32)
    return model.eval()


def test_vit_tiny_has_the_published_counts() -> None:
    census = census_of(timm.create_model("vit_tiny_patch16_224"), 3, 224, 224)
    millions = {"qkv": 261.4, "attn.qk": 89.4, "attn.pv": 89.4, "attn.proj": 87.2, "fc1": 348.6, "fc2": 348.6}
    millions |= {"patch_embed.proj": 28.9, "head": 0.2}
    for suffix, expected in millions.items():  # some published figures are rounded up: one of the last digit
        count = sum(c.macs for c in census if c.name.endswith(suffix))
        assert count / 1e6 == pytest.approx(expected, abs=0.1)
    assert round(sum(c.macs for c in census) / 1e6, 1) == 1253.7
    assert round(sum(c.weights for c in census) / 1e6, 3) == 5.648


def test_it_agrees_with_the_audit_of_the_exported_model(tmp_path: Path) -> None:
    example = torch.randn(2, 3, 32, 32)
    graph = capture(small_vit(), example)
    export_float(graph, example, tmp_path / "m.onnx", ExportSettings(), {})
    assert sum(c.macs for c in take_census(graph)) == audit_model(tmp_path / "m.onnx").macs()


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        # several windows of each image share the batch axis
        ("swin_tiny_patch4_window7_224", 112, {"depths": (1, 1), "num_heads": (2, 4), "embed_dim": 32}),
        ("test_efficientnet", 32, {}),
        ("convnext_atto", 32, {"depths": (1, 1, 1, 1)}),
    ],
)
def test_totals_are_those_of_the_operation_counter(name: str, size: int, options: dict[str, object]) -> None:
    model = timm.create_model(name, **options, **({"img_size": size} if "swin" in name else {})).eval()
    images = torch.randn(2, 3, size, size)
    graph = capture(model, images)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        graph(images)
    census = take_census(graph)
    assert sum(c.macs for c in census) * len(images) * 2 == counter.get_total_flops()
    assert not [c for c in census if c.kind is LayerKind.OTHER]


def test_layers_are_named_as_places_are() -> None:
    graph = capture(small_vit(), torch.randn(2, 3, 32, 32))
    stems = {str(kind) for kind in LayerKind}
    places = {p.layer for p in find_places(graph) if p.role.partition(".")[0] in stems}
    names = [c.name for c in take_census(graph)]
    assert set(names) == places
    assert len(names) == len(places)


def test_elements_of_a_grouped_convolution_and_of_attention() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 12, 3, padding=1, groups=4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).flatten(2)  # [B, 12, 25]
            return (x @ x.transpose(1, 2)).softmax(-1) @ x

    conv, qk, pv = census_of(Model(), 8, 5, 5)
    weights, inputs, outputs = 12 * 2 * 9, 8 * 25, 12 * 25
    assert conv == LayerCount("conv", LayerKind.CONV, outputs * 2 * 9, weights, inputs, outputs)
    assert (qk.kind, qk.macs, qk.weights) == (LayerKind.ATTENTION_QK, 12 * 12 * 25, 0)
    assert (qk.inputs, qk.second_inputs, qk.outputs) == (12 * 25, 12 * 25, 12 * 12)
    assert (pv.kind, pv.macs) == (LayerKind.ATTENTION_PV, 12 * 25 * 12)
    assert (pv.inputs, pv.second_inputs, pv.outputs) == (12 * 12, 12 * 25, 12 * 25)


def test_a_static_batch_counts_one_image() -> None:
    model = small_vit()
    assert census_of(model, 3, 32, 32, batch=4, dynamic=False) == census_of(model, 3, 32, 32)


def test_a_layer_called_twice_works_twice_with_one_weight() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.fc(x).tanh())

    assert census_of(Twice(), 5, 8) == (LayerCount("fc", LayerKind.LINEAR, 2 * 5 * 64, 64, 2 * 40, 2 * 40),)


def test_products_without_a_role_are_counted_under_names_of_their_own() -> None:
    class Side(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.extra = nn.Linear(8, 4), nn.Parameter(torch.randn(8, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) + x @ self.extra

    fc, extra = census_of(Side(), 5, 8)
    assert fc.kind is LayerKind.LINEAR
    assert extra == LayerCount("extra", LayerKind.OTHER, 5 * 8 * 4, 32, 40, 20)


def test_a_product_that_cannot_be_counted_is_refused() -> None:
    class Einsum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("bij,bkj->bik", x, x)

    with pytest.raises(Unsupported, match="einsum"):
        census_of(Einsum(), 4, 8)
