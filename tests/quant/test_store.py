import json
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, fx

from quant.calibrate import CalibratedGraph, calibrate
from quant.encoding import ActivationCodes, Encoding, WeightGuard, freeze
from quant.errors import BadInput
from quant.graph import capture
from quant.recipe import Recipe, load_recipe, parse
from quant.store import load_calibration, save_calibration

ENCODINGS = [
    Encoding(),
    Encoding(ActivationCodes.SIGNED_SYMMETRIC),
    Encoding(ActivationCodes.UNSIGNED, WeightGuard.PAIRS),
]


def captured() -> fx.GraphModule:
    torch.manual_seed(0)
    settings = {
        "img_size": 16,
        "patch_size": 8,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 2,
        "num_classes": 5,
    }
    model = timm.create_model("vit_tiny_patch16_224", **settings).eval()
    with torch.no_grad():
        model.blocks[1].mlp.fc1.bias[3] = 40.0  # an outlier behind GELU, for the side path
    return capture(model, torch.zeros(2, 3, 16, 16))


def recipe(observer: str) -> Recipe:
    data = load_recipe("int8").model_dump(mode="json")
    data["specs"]["activation"] |= {"observer": observer, "observer_options": {}}
    return parse(Recipe, data, "test")


def batches(_: int | None) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, 16, 16, generator=generator) for _ in range(3)]


@pytest.fixture(scope="module")
def graph() -> fx.GraphModule:
    return captured()


def frozen_bits(calibrated: CalibratedGraph, encoding: Encoding) -> dict[str, tuple[object, ...]]:
    found = freeze(calibrated, encoding)
    return {
        name: (q.scale.tolist(), q.zero_point.tolist(), q.qmin, q.qmax, q.axis) for name, q in found.items()
    }


@pytest.mark.parametrize("observer", ["minmax", "percentile", "omse", "kl", "ema"])
def test_a_loaded_calibration_freezes_to_the_same_bits(
    graph: fx.GraphModule, tmp_path: Path, observer: str
) -> None:
    made = calibrate(graph, recipe(observer), batches)
    assert any("blocks.1.mlp.fc2" in note.layer and note.applied for note in made.notes)
    save_calibration(made, tmp_path / "c.safetensors", "model")
    loaded = load_calibration(tmp_path / "c.safetensors", captured(), "model")
    assert (loaded.recipe, loaded.images, loaded.notes) == (made.recipe, 12, made.notes)
    for encoding in ENCODINGS:
        assert frozen_bits(loaded, encoding) == frozen_bits(made, encoding)
    images = batches(None)[0]
    assert torch.equal(loaded.graph(images), made.graph(images))


def test_the_file_depends_on_the_calibration_alone(graph: fx.GraphModule, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_calibration(calibrate(graph, recipe("minmax"), batches), tmp_path / name, "model")
    made = calibrate(graph, recipe("minmax"), batches)
    freeze(made, Encoding())  # frozen or not makes no difference
    save_calibration(made, tmp_path / "c", "model")
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1


def test_the_float_graph_is_not_changed_by_loading(graph: fx.GraphModule, tmp_path: Path) -> None:
    save_calibration(calibrate(graph, recipe("minmax"), batches), tmp_path / "c", "model")
    before = graph(batches(None)[0])
    load_calibration(tmp_path / "c", graph, "model")
    assert torch.equal(graph(batches(None)[0]), before)
    assert not [n for n in graph.graph.nodes if n.op == "call_module"]


@pytest.fixture(scope="module")
def stored(graph: fx.GraphModule, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("stored") / "c"
    save_calibration(calibrate(graph, recipe("minmax"), batches), path, "model")
    return path.read_bytes()


def without_a_range(stored: bytes) -> bytes:
    tensors = safetensors.torch.load(stored)
    del tensors["site/head.input/observer/low"]
    size = int.from_bytes(stored[:8], "little")
    return safetensors.torch.save(tensors, json.loads(stored[8 : 8 + size])["__metadata__"])


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda _: b"", "not a whole calibration"),
        (lambda stored: stored[: len(stored) // 2], "not a whole calibration"),
        (lambda _: safetensors.torch.save({"weight": torch.zeros(3)}), "not a whole calibration"),
        (without_a_range, "'head.input'"),
    ],
    ids=["empty", "truncated", "weights of a model", "a tensor missing"],
)
def test_a_damaged_file_is_named(
    graph: fx.GraphModule, stored: bytes, tmp_path: Path, spoil: object, word: str
) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(spoil(stored))  # type: ignore[operator]
    with pytest.raises(BadInput, match=word):
        load_calibration(path, graph, "model")


def test_another_model_is_refused(graph: fx.GraphModule, stored: bytes, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(stored)
    with pytest.raises(BadInput, match="another model"):
        load_calibration(tmp_path / "c", graph, "other weights")
    with pytest.raises(BadInput, match="does not exist"):
        load_calibration(tmp_path / "d", graph, "model")
    conv = capture(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).eval(), torch.zeros(2, 3, 16, 16))
    with pytest.raises(BadInput, match="layers of the model"):
        load_calibration(tmp_path / "c", conv, "model")


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    graph: fx.GraphModule, stored: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, _: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    (tmp_path / "c").write_bytes(stored)
    made = calibrate(graph, recipe("ema"), batches)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        save_calibration(made, tmp_path / "c", "model")
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    assert (tmp_path / "c").read_bytes() == stored
