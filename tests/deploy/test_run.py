import weakref
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from deploy.onnxruntime.build import SessionSettings
from deploy.onnxruntime.run import OrtRunner
from deploy.runner import Runner
from quant.errors import BadInput, InternalError

TWO_INPUTS = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[N, 3] a, float[N, 3] b) => (float[N, 3] total, float[N, 3] difference)
{ total = Add(a, b)  difference = Sub(a, b) }
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(parser.parse_model(TWO_INPUTS), path)
    return path


def test_infer_returns_every_output_by_name(model: Path) -> None:
    a, b = np.float32([[1, 2, 3]]), np.float32([[5, 7, 9]])
    runner: Runner = OrtRunner(model)
    with runner:
        outputs = runner.infer({"b": b, "a": a})
    assert set(outputs) == {"total", "difference"}
    np.testing.assert_array_equal(outputs["total"], a + b)
    np.testing.assert_array_equal(outputs["difference"], a - b)


def test_names_are_in_model_order(model: Path) -> None:
    with OrtRunner(model) as runner:
        assert runner.input_names == ("a", "b")
        assert runner.output_names == ("total", "difference")


GOOD = np.zeros((1, 3), np.float32)


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"a": GOOD}, "inputs are a, b; given: a"),
        ({"a": GOOD, "c": GOOD}, "inputs are a, b; given: a, c"),
        ({"a": GOOD, "b": GOOD.astype(np.float64)}, "'b': given float64, the model expects float32"),
        ({"a": GOOD, "b": np.zeros((1, 4), np.float32)}, r"'b': given shape \[1, 4\].*\[N, 3\]"),
        ({"a": np.zeros(3, np.float32), "b": GOOD}, r"'a': given shape \[3\].*\[N, 3\]"),
    ],
)
def test_feeds_that_do_not_fit_are_bad_input(model: Path, feeds: dict[str, np.ndarray], message: str) -> None:
    with OrtRunner(model) as runner, pytest.raises(BadInput, match=message):
        runner.infer(feeds)


def test_sizes_that_disagree_between_inputs_are_not_silent(model: Path) -> None:
    with OrtRunner(model) as runner, pytest.raises(Exception, match=r"(?i)dim|shape|broadcast"):
        runner.infer({"a": np.zeros((2, 3), np.float32), "b": np.zeros((5, 3), np.float32)})


def test_outside_the_with_block_it_is_an_error(model: Path) -> None:
    runner = OrtRunner(model)
    with pytest.raises(InternalError, match="with"):
        runner.infer({"a": GOOD, "b": GOOD})
    with runner:
        pass
    with pytest.raises(InternalError, match="with"):
        _ = runner.input_names


def test_the_session_is_released_at_exit(model: Path) -> None:
    with OrtRunner(model) as runner:
        session = weakref.ref(runner.session)
    assert session() is None


def test_a_profile_is_written_when_the_block_ends(model: Path) -> None:
    runner = OrtRunner(model, SessionSettings(profile_prefix=model.with_name("profile")))
    with runner:
        runner.infer({"a": GOOD, "b": GOOD})
    assert runner.profile_path is not None
    assert "Add" in runner.profile_path.read_text()
