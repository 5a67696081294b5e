from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quant.data.batches import batches
from quant.data.config import SourceConfig
from quant.data.preprocessing import Preprocessing
from quant.data.sources import open_source
from quant.data.tensor_input import TensorInput
from quant.errors import BadInput

INPUTS = np.random.default_rng(0).normal(size=(5, 4, 3))
LABELS = np.array([2, 0, 1, 1, 0])


def config(folder: Path, **arrays: np.ndarray) -> SourceConfig:
    np.savez(folder / "set.npz", **arrays)
    return SourceConfig(kind="arrays", path=folder / "set.npz")


def test_arrays_reach_the_model_as_they_are(tmp_path: Path) -> None:
    source = open_source(config(tmp_path, inputs=INPUTS, labels=LABELS))
    first, second = batches(source, TensorInput((4, 3)), batch_size=4)
    assert torch.equal(torch.cat([first.images, second.images]), torch.from_numpy(INPUTS.astype(np.float32)))
    assert [*first.labels, *second.labels] == LABELS.tolist()
    assert second.names == ["set.npz[4]"]


@pytest.mark.parametrize(
    ("inputs", "labels", "says"),
    [
        (INPUTS.astype(np.int64), LABELS, "inputs has dtype int64"),
        (INPUTS[:, 0, 0], LABELS, r"shape \[5\]"),
        (np.where(INPUTS > 1, np.nan, INPUTS), LABELS, "not finite"),
        (INPUTS[:4], LABELS, "has 4 inputs but 5 labels"),
        (np.float64(1), LABELS, "no list of inputs"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, inputs: np.ndarray, labels: np.ndarray, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        open_source(config(tmp_path, inputs=inputs, labels=labels))


def test_a_model_of_arrays_refuses_images_and_other_shapes_and_one_of_images_refuses_arrays() -> None:
    take = TensorInput((4, 3)).transform()
    with pytest.raises(BadInput, match=r"takes arrays \[4, 3\], the source gives \[3, 4\]"):
        take(INPUTS[0].T)
    with pytest.raises(BadInput, match=r"takes arrays \[4, 3\], the source gives Image"):
        take(Image.new("RGB", (4, 3)))
    images = Preprocessing(input_size=(1, 4, 4), mean=(0.0,), std=(1.0,)).transform()
    with pytest.raises(BadInput, match="takes images, the source gives ndarray"):
        images(INPUTS[0])


@pytest.mark.parametrize("shape", [(), (0, 3), (4, 1.5)])
def test_what_is_no_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="input_shape is"):
        TensorInput(shape)


def test_options_are_for_kinds_that_have_some(tmp_path: Path) -> None:
    with_options = config(tmp_path, inputs=INPUTS, labels=LABELS).model_copy(
        update={"options": {"frames": 3}}
    )
    with pytest.raises(BadInput, match="kind arrays has no options; given: frames"):
        open_source(with_options)
