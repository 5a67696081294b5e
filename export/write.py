"""Write an ONNX file: checked, reproducible, whole or not at all."""

from pathlib import Path

import onnx
import onnx_ir as ir

from quant.errors import InternalError
from quant.files import replace_bytes

__all__ = ["check_model", "write_model"]


def check_model(proto: onnx.ModelProto, what: str) -> None:
    """Run ONNX's checker with full type and shape inference.

    Raises:
        InternalError: the model is not valid.
    """
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InternalError(f"{what} is not valid ONNX: {error}") from error


def write_model(model: ir.Model, path: Path) -> None:
    """Check the model and write it beside ``path``, then rename.

    The same model gives the same bytes.

    Raises:
        InternalError: the ONNX checker refuses it.
        OSError: it cannot be written.
    """
    model.producer_name, model.producer_version = "octavo", None
    proto = ir.to_proto(model)
    check_model(proto, str(path.name))
    replace_bytes(path, proto.SerializeToString(deterministic=True))
