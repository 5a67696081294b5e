import pytest
import torch

from quant.calibrate import calibrate
from quant.encoding import Encoding, freeze
from quant.graph import capture
from quant.recipe import Recipe
from quant.store import load_calibration, save_calibration
from tests.export.small_models import images_of, simple_recipe, tiny_vit


@pytest.fixture(scope="module")
def images():
    return images_of(24, 3, 32, 32)


@pytest.fixture(scope="module")
def graph(images):
    return capture(tiny_vit().eval(), images[:2])


def recipe(*methods: dict[str, object]) -> Recipe:
    bits = {"activation": {"bits": 4}, "weight": {"bits": 3}}
    plain = simple_recipe(**bits)
    return Recipe.model_validate(plain.model_dump() | {"methods": methods, "tuning_images": 24})


def error(calibrated, graph, images) -> float:
    freeze(calibrated, Encoding())
    with torch.no_grad():
        return float((calibrated.graph(images) - graph(images)).square().mean())


def tuned(graph, images, *methods):
    return calibrate(graph, recipe(*methods), lambda n: torch.split(images[:n], 8))


RECONSTRUCT = {"name": "reconstruct", "iterations": 60, "batch": 8}
FINE_TUNE = {"name": "fine_tune", "epochs": 8, "batch": 8, "mirror": False, "crop": 1.0, "features": 0.0}
WITH_BLOCKS = FINE_TUNE | {"features": 1.0, "crop": 0.8}


@pytest.mark.parametrize("method", [RECONSTRUCT, FINE_TUNE, WITH_BLOCKS], ids=["blocks", "logits", "both"])
def test_training_brings_the_output_closer_to_the_float_model(graph, images, method):
    plain, trained = (tuned(graph, images, *methods) for methods in ((), (method,)))
    assert error(trained, graph, images) < 0.8 * error(plain, graph, images)


@pytest.mark.parametrize("method", [RECONSTRUCT, FINE_TUNE], ids=lambda m: m["name"])
def test_training_is_repeated_exactly_and_survives_storing(graph, images, method, tmp_path):
    first, second = (tuned(graph, images, method) for _ in range(2))
    save_calibration(first, tmp_path / "c", "model")
    loaded = load_calibration(tmp_path / "c", graph, "model")
    for other in (second, loaded):
        a, b = (freeze(c, Encoding()) for c in (first, other))
        assert all(torch.equal(a[name].scale, b[name].scale) for name in a)
        with torch.no_grad():
            assert torch.equal(first.graph(images), other.graph(images))
    assert loaded.notes == first.notes


def test_a_block_that_got_worse_is_left_as_it_was(graph, images):
    wild = RECONSTRUCT | {"weight_rate": 50.0, "iterations": 5}
    result = tuned(graph, images, wild)
    notes = [note for note in result.notes if note.method == "reconstruct"]
    assert notes
    assert not any(note.applied for note in notes)
    assert error(result, graph, images) == error(tuned(graph, images), graph, images)


def test_the_start_is_kept_where_fine_tuning_does_not_help(graph, images):
    result = tuned(graph, images, FINE_TUNE | {"weight_rate": 50.0, "epochs": 2})
    (note,) = result.notes
    assert not note.applied
    assert error(result, graph, images) == error(tuned(graph, images), graph, images)


def test_the_rest_of_the_model_can_take_part_in_the_loss(graph, images):
    result = tuned(graph, images, RECONSTRUCT | {"iterations": 20, "feature_iterations": 20})
    assert any(note.applied for note in result.notes)


def test_a_block_is_trained_on_what_the_trained_blocks_before_it_give(graph, images):
    notes = [note for note in tuned(graph, images, RECONSTRUCT).notes if note.method == "reconstruct"]
    trained = next(index for index, note in enumerate(notes[:-1]) if note.applied)
    names = [note.layer for note in notes]
    first, rest = (RECONSTRUCT | {"blocks": part} for part in (names[: trained + 1], names[trained + 1 :]))
    together = tuned(graph, images, RECONSTRUCT)
    in_turn = tuned(graph, images, first, rest)
    assert error(together, graph, images) == error(in_turn, graph, images)
