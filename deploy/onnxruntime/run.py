"""Run an ONNX model with ONNX Runtime, refusing feeds that do not fit it."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import onnxruntime as ort

from deploy.onnxruntime.build import SessionSettings, build_session
from deploy.runner import Array
from quant.errors import BadInput, InternalError, Unsupported

__all__ = ["NUMPY_TYPES", "OrtRunner"]

NUMPY_TYPES: Mapping[str, np.dtype[np.generic]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int16)": np.dtype(np.int16),
    "tensor(uint16)": np.dtype(np.uint16),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(uint32)": np.dtype(np.uint32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(uint64)": np.dtype(np.uint64),
    "tensor(bool)": np.dtype(np.bool_),
}
"""ONNX Runtime's name of a tensor type to the NumPy type that feeds it."""


class OrtRunner:
    """A `deploy.runner.Runner` on ONNX Runtime; the session lives inside the ``with`` block.

    Args:
        model: an ONNX file, or its bytes.
        settings: see `SessionSettings`; None means the defaults.
    """

    def __init__(self, model: Path | bytes, settings: SessionSettings | None = None) -> None:
        self._model = model
        self._settings = settings or SessionSettings()
        self._session: ort.InferenceSession | None = None
        self._profile_path: Path | None = None

    def __enter__(self) -> Self:
        self._session = build_session(self._model, self._settings)
        # Asked for once: a call of a small model takes less time than these questions.
        self._inputs = {i.name: (NUMPY_TYPES.get(i.type), i.shape) for i in self._session.get_inputs()}
        self._outputs = [o.name for o in self._session.get_outputs()]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None and self._settings.profile_prefix is not None:
            self._profile_path = Path(self._session.end_profiling())
        self._session = None

    @property
    def session(self) -> ort.InferenceSession:
        """The open session.

        Raises:
            InternalError: the runner is used outside its ``with`` block.
        """
        if self._session is None:
            raise InternalError("OrtRunner used outside its `with` block: the session is not open")
        return self._session

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the model's inputs, in order."""
        return tuple(i.name for i in self.session.get_inputs())

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the model's outputs, in order."""
        return tuple(o.name for o in self.session.get_outputs())

    @property
    def profile_path(self) -> Path | None:
        """ORT's profile, written when the block ends, if ``profile_prefix`` asked for one."""
        return self._profile_path

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once.

        Args:
            feeds: input name to array, one for each input, of the model's type and shape.

        Returns:
            Output name to array.

        Raises:
            BadInput: a name, a shape or a type does not fit the model.
            Unsupported: an operator failed while it ran.
        """
        session = self.session
        self._check(feeds)
        try:
            values = session.run(self._outputs, feeds)
        except ort.capi.onnxruntime_pybind11_state.InvalidArgument as error:
            raise BadInput(f"ONNX Runtime refused the input: {error}") from error
        except Exception as error:  # ORT's exceptions share no base class of their own
            raise Unsupported(f"ONNX Runtime loaded the model but cannot run it: {error}") from error
        return dict(zip(self._outputs, values, strict=True))

    def _check(self, feeds: Mapping[str, Array]) -> None:
        if feeds.keys() != self._inputs.keys():
            raise BadInput(
                f"the model's inputs are {', '.join(self._inputs)}; given: {', '.join(feeds) or 'none'}"
            )
        for name, array in feeds.items():
            want, shape = self._inputs[name]
            if want is not None and array.dtype != want:
                raise BadInput(f"input {name!r}: given {array.dtype}, the model expects {want}")
            if not _fits(array.shape, shape):
                wanted = ", ".join(str(d) for d in shape)
                raise BadInput(
                    f"input {name!r}: given shape {list(array.shape)}, the model expects [{wanted}]"
                )


def _fits(given: tuple[int, ...], expected: list[int | str | None]) -> bool:
    if len(given) != len(expected):
        return False
    for have, want in zip(given, expected, strict=True):  # a plain loop: all() takes several times as long
        if have != want and isinstance(want, int):
            return False
    return True
