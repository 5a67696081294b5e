"""How codes are stored, and what that needs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto

from export.onnx_export import export_qdq
from export.settings import ExportSettings
from export.storage import Storage, activation_storage, stored, weight_storage
from quant.kernels import dequantize, quantize_codes
from quant.qparams import QParams, qparams_from_range
from quant.spec import QuantSpec
from tests.export.small_models import Perceptron, calibrated_of, images_of, run, weight_recipe

INT4, UINT4, INT8, UINT8 = ir.DataType.INT4, ir.DataType.UINT4, ir.DataType.INT8, ir.DataType.UINT8
FP8 = ir.DataType.FLOAT8E4M3FN


def qparams(**fields: Any) -> QParams:
    shape = (4, 2) if "group_size" in fields else (4,)
    spec = QuantSpec.model_validate({"signed": True, "granularity": "per_channel", **fields})
    return qparams_from_range(-torch.ones(shape), 2 * torch.ones(shape), spec)


GROUPS: dict[str, Any] = {"granularity": "per_group", "group_size": 32}


@pytest.mark.parametrize(
    ("fields", "weight_only", "expected"),
    [
        ({"bits": 4}, True, Storage(INT4)),
        ({"bits": 4}, False, Storage(INT8)),  # integer kernels take bytes
        ({"bits": 5}, True, Storage(INT8)),
        ({"bits": 3, "signed": False}, True, Storage(UINT4)),
        ({"bits": 8, "signed": False}, True, Storage(UINT8)),
        ({"bits": 4, **GROUPS}, False, Storage(INT4, 32)),
        ({"bits": 8, **GROUPS}, True, Storage(INT8, 32)),
        ({"bits": 8, "scheme": "fp8_e4m3", "symmetric": True}, True, Storage(FP8)),
    ],
)
def test_weights(fields: dict[str, Any], weight_only: bool, expected: Storage) -> None:
    storage = weight_storage(qparams(**fields), weight_only)
    assert storage == expected
    needs_21 = "group_size" in fields or expected.dtype in (INT4, UINT4)
    assert (storage.opset >= 21) == needs_21


def test_activations_are_bytes_or_fp8() -> None:
    for fields, dtype in (
        ({"bits": 4}, INT8),
        ({"bits": 8, "signed": False}, UINT8),
        ({"scheme": "fp8_e4m3", "symmetric": True}, FP8),
    ):
        assert activation_storage(qparams(**fields)) == Storage(dtype)


@pytest.mark.parametrize("dtype", [INT4, INT8, FP8])
def test_stored_codes_are_the_same_numbers(dtype: ir.DataType) -> None:
    fields = {"scheme": "fp8_e4m3"} if dtype is FP8 else {"bits": 4}
    q = qparams(symmetric=True, **fields)
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    codes = quantize_codes(x, q)
    numbers = stored(codes, dtype).astype(np.float64) * q.scale.double().numpy()[:, None]
    np.testing.assert_allclose(numbers, dequantize(codes, q).double().numpy(), rtol=1e-6)


def test_the_canonical_file_holds_4_bit_blocks_and_names_its_opset(tmp_path: Path) -> None:
    """Two codes in a byte, one scale per group, in opset 21 though 20 was asked for."""
    images = images_of(8, 5, 64)
    recipe = weight_recipe(bits=4, granularity="per_group", group_size=16)
    _, calibrated = calibrated_of(Perceptron(), images, recipe)
    notes = export_qdq(calibrated, images[:2], tmp_path / "m.onnx", ExportSettings(), {})
    proto = onnx.load(tmp_path / "m.onnx")
    assert proto.opset_import[0].version == 21
    assert any("opset 21, not 20" in note.text for note in notes.passes)
    tensors = {i.name: i for i in proto.graph.initializer}
    codes, scale = tensors["fc1.weight.codes"], tensors["fc1.weight.scale"]
    assert (codes.data_type, list(codes.dims), len(codes.raw_data)) == (TensorProto.INT4, [48, 64], 48 * 32)
    assert list(scale.dims) == [48, 4]
    with torch.no_grad():
        expected = calibrated.graph(images).double().numpy()
    for optimized in (False, True):
        assert np.abs(run(proto, images, optimized) - expected).max() <= 1e-5 * np.abs(expected).max()
