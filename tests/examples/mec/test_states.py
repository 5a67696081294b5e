from pathlib import Path

import numpy as np
import pytest

from examples.mec.checkpoint import load_checkpoint
from examples.mec.critic import allocate
from examples.mec.states import StatesOptions, StatesSource, calibration_states, validation_states
from examples.mec.train import weights_file
from quant.data.config import SourceConfig
from quant.data.sources import open_source
from quant.errors import BadInput

SMALL = {"states": 64, "traces": 2, "frames": 60}


def source(split: str | None, path: Path | None = None, **options: float) -> StatesSource:
    path = path or weights_file(3.0)
    opened = open_source(
        SourceConfig(kind="mec_states", path=path, split=split, options={**SMALL, **options})
    )
    assert isinstance(opened, StatesSource)
    return opened


def test_samples_are_tokens_and_labels_the_best_of_all_decisions() -> None:
    states = source("validation")
    assert len(states) >= 60
    tokens, label = states[5]
    assert (tokens.shape, tokens.dtype) == ((10, 3), np.float32)
    checkpoint = load_checkpoint(weights_file(3.0))
    drawn = validation_states(checkpoint, StatesOptions.model_validate(SMALL))
    masks = range(1024)
    every = np.array([[[bool(mask >> user & 1) for user in range(10)] for mask in masks]])
    objective = allocate(checkpoint.record.system, drawn[5:6], every).objective[0]
    assert label == int(objective.argmax())
    assert states.name(5) == "validation[5]"


def test_the_same_seed_gives_the_same_states_and_splits_differ() -> None:
    first, again = source("validation"), source("validation")
    assert np.array_equal(first[7][0], again[7][0])
    other, apart = source("validation", seed=1), source("calibration")
    assert not np.array_equal(first[7][0], other[7][0])
    assert not np.array_equal(first[7][0], apart[7][0])


def test_calibration_covers_the_start_and_the_highest_backlog() -> None:
    checkpoint = load_checkpoint(weights_file(3.0))
    options = StatesOptions.model_validate({**SMALL, "high_backlog": 300})
    states = calibration_states(checkpoint, options)
    assert (states.backlog == 0).all(axis=1).any()
    assert states.backlog.max() >= 300
    assert len(states) == pytest.approx(64, rel=0.2)


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="calibration or validation"):
        source("train")
    with pytest.raises(BadInput, match="unknown key 'backlog'"):
        source("validation", backlog=3)
    with pytest.raises(BadInput, match="does not exist"):
        source("validation", path=tmp_path / "none.safetensors")
