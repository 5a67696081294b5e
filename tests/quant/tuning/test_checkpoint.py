import pytest
import torch

from quant.calibrate import calibrate
from quant.encoding import Encoding, freeze
from quant.graph import capture
from quant.recipe import Recipe
from quant.tuning.checkpoint import Checkpoint, identity
from tests.export.small_models import images_of, simple_recipe, tiny_vit

EPOCHS = 4


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def images():
    return images_of(24, 3, 32, 32)


@pytest.fixture(scope="module")
def train(images):
    """Calibrates a small ViT and trains it; the result's output, and the epochs that were trained."""
    graph = capture(tiny_vit().eval(), images[:2])
    plain = simple_recipe(activation={"bits": 4}, weight={"bits": 3})

    def run(checkpoint=None, stop_after=None, **options):
        method = {"name": "fine_tune", "epochs": EPOCHS, "batch": 8, "weight_rate": 0.02} | options
        recipe = Recipe.model_validate(plain.model_dump() | {"methods": [method], "tuning_images": 24})
        epochs = []

        def watch(phase, done, _total):
            if phase == "fine-tuning":
                epochs.append(done)
                if done == stop_after:
                    raise Interrupted

        calibrated = calibrate(graph, recipe, lambda n: torch.split(images[:n], 8), watch, checkpoint)
        freeze(calibrated, Encoding())
        with torch.no_grad():
            return calibrated.graph(images), epochs

    return run


def test_an_interrupted_training_goes_on_and_ends_the_same(train, tmp_path):
    whole, _ = train()
    checkpoint = Checkpoint(tmp_path / "kept" / "training.pt")
    with pytest.raises(Interrupted):
        train(checkpoint, stop_after=2)
    resumed, epochs = train(checkpoint)
    assert epochs == [3, 4]
    assert torch.equal(resumed, whole)


def test_another_training_starts_anew(train, tmp_path):
    checkpoint = Checkpoint(tmp_path / "training.pt")
    with pytest.raises(Interrupted):
        train(checkpoint, stop_after=2)
    _, epochs = train(checkpoint, weight_rate=0.01)
    assert epochs == [1, 2, 3, 4]


def test_a_damaged_file_counts_as_none(tmp_path):
    checkpoint = Checkpoint(tmp_path / "training.pt")
    checkpoint.save("key", {"a": torch.ones(3)})
    assert torch.equal(checkpoint.load("key")["a"], torch.ones(3))
    assert checkpoint.load("another") is None
    content = checkpoint.path.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"no such format"):
        checkpoint.path.write_bytes(damaged)
        assert checkpoint.load("key") is None
    checkpoint.clear()
    assert list(tmp_path.iterdir()) == []


def test_the_identity_tells_settings_values_and_shapes_apart():
    x = torch.arange(6.0)
    found = {
        identity("a", [x]),
        identity("b", [x]),
        identity("a", [x.reshape(2, 3)]),
        identity("a", [x + 1]),
        identity("a", [x, x]),
    }
    assert len(found) == 5
    assert identity("a", [x.clone()]) in found
