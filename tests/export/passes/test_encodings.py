"""Scales, zero points and codes of a target, against ONNX Runtime with optimizations off."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from export.lower import lower
from export.onnx_export import export_qdq
from export.passes.base import run_passes
from export.passes.encodings import SetEncodings, set_encodings
from export.settings import ExportSettings
from export.targets import TARGETS, get_target
from quant.encoding import ActivationCodes, Encoding, freeze
from quant.errors import InternalError
from tests.export.small_models import Served, calibrated_of, run, simple_recipe, small_cnn


def encoded(served: Served, encoding: Encoding) -> onnx.ModelProto:
    model = ir.load(served.qdq)
    run_passes(model, [set_encodings(served.calibrated, freeze(served.calibrated, encoding))])
    return ir.to_proto(model)


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_signed_codes_are_the_same_numbers(kind: str, request: pytest.FixtureRequest) -> None:
    served: Served = request.getfixturevalue(kind)
    signed = encoded(served, Encoding(ActivationCodes.SIGNED))
    types = {i.data_type for i in signed.graph.initializer if i.name.endswith(".zero_point")}
    assert types == {onnx.TensorProto.INT8}
    np.testing.assert_array_equal(run(signed, served.images), run(served.qdq, served.images))


def test_dropping_a_role_removes_its_pairs(cnn: Served) -> None:
    dropped = Encoding(dropped_roles=frozenset({"conv.output"}))
    proto = encoded(cnn, dropped)
    scales = {n.input[1] for n in proto.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")}
    assert "conv.output.scale" not in scales
    assert "conv.input.scale" in scales
    assert not any(i.name.startswith("conv.output") for i in proto.graph.initializer)
    with torch.no_grad():
        expected = cnn.calibrated.graph(cnn.images).numpy()
    assert np.abs(run(proto, cnn.images) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_dropped_pair_at_the_end_keeps_the_outputs_name(tmp_path: Path) -> None:
    class Ends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.conv(x)
            return y

    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    _, calibrated = calibrated_of(Ends(), images, simple_recipe())
    export_qdq(calibrated, images[:2], tmp_path / "qdq.onnx", ExportSettings(), {})
    lower(tmp_path / "qdq.onnx", calibrated, get_target("tensorrt"), tmp_path / "trt.onnx", {})
    for name in ("qdq.onnx", "trt.onnx"):
        assert [o.name for o in onnx.load(tmp_path / name).graph.output] == ["output"]


@pytest.mark.parametrize("signed", [False, True])
def test_six_bits_are_clipped_in_eight(signed: bool, cnn: Served, tmp_path: Path) -> None:
    recipe = simple_recipe(activation={"bits": 6, "signed": signed, "symmetric": signed}, weight={"bits": 4})
    _, calibrated = calibrated_of(small_cnn(), cnn.images, recipe)
    export_qdq(calibrated, cnn.example, tmp_path / "qdq.onnx", ExportSettings(), {})
    wide = cnn.images * 3  # far beyond the calibrated range
    for name, path in [("qdq", tmp_path / "qdq.onnx"), *((t, tmp_path / f"{t}.onnx") for t in TARGETS)]:
        if name != "qdq":
            lower(tmp_path / "qdq.onnx", calibrated, get_target(name), path, {}, "off")
        nodes = onnx.load(path).graph.node
        quantizes = [n for n in nodes if n.op_type == "QuantizeLinear" and not n.input[0].endswith(".grid")]
        clips = [n for n in nodes if n.op_type == "Clip"]
        assert {n.input[0] for n in quantizes} == {n.output[0] for n in clips}
        assert len(clips) == len(quantizes) > 2
        if name == "qdq":
            freeze(calibrated, Encoding())
        with torch.no_grad():
            expected = calibrated.graph(wide).numpy()
        # qdq: float32 rounding. ort: the head's bias is rounded to multiples of scale_input · scale_weight.
        # tensorrt: float16 has 11 bits; sums of a few hundred products keep about 8 of them.
        tolerance = {"qdq": 1e-5, "tensorrt": 1e-2}.get(name, 1e-3)
        assert np.abs(run(path, wide) - expected).max() <= tolerance * np.abs(expected).max(), name


def test_eight_bits_need_no_clip(cnn: Served) -> None:
    assert not [n for n in onnx.load(cnn.qdq).graph.node if n.op_type == "Clip"]


def test_a_missing_site_is_an_internal_error(cnn: Served) -> None:
    frozen = freeze(cnn.calibrated, Encoding())
    known = next(q for q in frozen.values() if q.axis is None)
    with pytest.raises(InternalError, match=r"without a Q/DQ node: no\.such\.site"):
        run_passes(ir.load(cnn.qdq), [SetEncodings({"no.such.site": known}, {})])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scale": torch.tensor(0.0)}, "not a positive constant"),
        ({"zero_point": torch.tensor(200, dtype=torch.int32), "qmax": 100}, "outside its format"),
    ],
)
def test_impossible_parameters_break_the_promise(change: dict[str, Any], words: str, cnn: Served) -> None:
    frozen = freeze(cnn.calibrated, Encoding())
    wrong = {name: replace(q, **change) if name == "conv.input" else q for name, q in frozen.items()}
    with pytest.raises(InternalError, match=rf"set_encodings.*'conv\.input'.*{words}|conv\.input.*{words}"):
        run_passes(ir.load(cnn.qdq), [set_encodings(cnn.calibrated, wrong)])
