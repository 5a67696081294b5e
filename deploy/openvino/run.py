"""Run a model with OpenVINO, refusing feeds that do not fit it.

Imports NumPy alone besides our own small modules, and OpenVINO when a model is opened, so that the
interpreter of another environment can run it.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from deploy.openvino.build import CompileSettings, compile_model
from deploy.runner import Array
from quant.errors import BadInput, InternalError, Unsupported

__all__ = ["OpenVinoRunner"]


class OpenVinoRunner:
    """A `deploy.runner.Runner` on OpenVINO; the compiled model lives inside the ``with`` block.

    Args:
        model: OpenVINO's ``.xml`` with its ``.bin`` beside it, or an ONNX file.
        settings: see `CompileSettings`; None means the defaults.
    """

    def __init__(self, model: Path, settings: CompileSettings | None = None) -> None:
        self._model = model
        self._settings = settings or CompileSettings()
        self._compiled: Any = None
        self._request: Any = None

    def __enter__(self) -> Self:
        self._compiled = compile_model(self._model, self._settings)
        self._request = self._compiled.create_infer_request()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._request = self._compiled = None

    @property
    def compiled(self) -> Any:
        """The open ``openvino.CompiledModel``.

        Raises:
            InternalError: the runner is used outside its ``with`` block.
        """
        if self._compiled is None:
            raise InternalError("OpenVinoRunner used outside its `with` block: no model is open")
        return self._compiled

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the model's inputs, in order."""
        return tuple(port.get_any_name() for port in self.compiled.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the model's outputs, in order."""
        return tuple(port.get_any_name() for port in self.compiled.outputs)

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once.

        Args:
            feeds: input name to array, one for each input, of the model's type and shape.

        Returns:
            Output name to array; the arrays are the caller's own.

        Raises:
            BadInput: a name, a shape or a type does not fit the model.
            Unsupported: an operator failed while it ran.
        """
        self._check(feeds)
        try:
            values = self._request.infer(dict(feeds), share_outputs=False)
        except RuntimeError as error:
            raise Unsupported(f"OpenVINO compiled the model but cannot run it: {error}") from error
        return {name: values[i] for i, name in enumerate(self.output_names)}

    def _check(self, feeds: Mapping[str, Array]) -> None:
        expected = dict(zip(self.input_names, self.compiled.inputs, strict=True))
        if set(feeds) != set(expected):
            raise BadInput(
                f"the model's inputs are {', '.join(expected)}; given: {', '.join(feeds) or 'none'}"
            )
        for name, array in feeds.items():
            port = expected[name]
            want = np.dtype(port.element_type.to_dtype())
            if array.dtype != want:
                raise BadInput(f"input {name!r}: given {array.dtype}, the model expects {want}")
            shape = port.partial_shape
            if not shape.compatible(type(shape)(list(array.shape))):
                raise BadInput(f"input {name!r}: given shape {list(array.shape)}, the model expects {shape}")
