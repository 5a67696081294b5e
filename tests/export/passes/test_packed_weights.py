"""Weight-only products on ONNX Runtime: the numbers of the fake-quant model, at the precision asked for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper, parser

from export.lower import lower
from export.onnx_export import export_qdq
from export.passes.base import run_passes
from export.passes.packed_weights import PackedWeights, pack
from export.settings import ExportSettings, WeightOnlyAccuracy
from export.targets import get_target
from quant.calibrated import CalibratedGraph
from tests.export.small_models import Perceptron, calibrated_of, executed, images_of, run, weight_recipe

EXACT = 1e-5
"""Largest difference, relative to the largest output: float32 sums in another order; 8 bits would be 1e-3."""


def group(bits: int, size: int, **fields: Any) -> dict[str, Any]:
    return {"bits": bits, "granularity": "per_group", "group_size": size, **fields}


ASYMMETRIC = {"symmetric": False, "narrow": False}
IMAGES = images_of(8, 5, 64)


def exported(folder: Path, activation: dict[str, Any] | None = None, **weight: Any) -> CalibratedGraph:
    _, calibrated = calibrated_of(Perceptron(), IMAGES, weight_recipe(activation, **weight))
    export_qdq(calibrated, IMAGES[:2], folder / "qdq.onnx", ExportSettings(), {})
    return calibrated


def lowered(folder: Path, calibrated: CalibratedGraph, accuracy: WeightOnlyAccuracy = "float") -> Path:
    path = folder / f"{accuracy}.onnx"
    lower(folder / "qdq.onnx", calibrated, get_target("ort-x86"), path, {}, "auto", accuracy)
    return path


def error(calibrated: CalibratedGraph, path: Path, optimized: bool) -> float:
    with torch.no_grad():
        expected = calibrated.graph(IMAGES).double().numpy()
    return float(np.abs(run(path, IMAGES, optimized) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("weight", "activation", "blocks"),
    [
        (group(4, 16), None, [16, 16, 16]),
        (group(4, 16, **ASYMMETRIC, signed=False), None, [16, 16, 16]),
        (group(8, 16, **ASYMMETRIC), None, [16, 16, 16]),
        ({"bits": 3, **ASYMMETRIC}, None, [64, 16, 32]),
        ({"bits": 8, "granularity": "per_tensor"}, None, [64, 16, 32]),
        (group(4, 16), {}, [16, 16, 16]),  # activations with Q/DQ pairs of their own
    ],
)
def test_the_numbers_are_those_of_the_fake_quant_model(
    weight: dict[str, Any], activation: dict[str, Any] | None, blocks: list[int], tmp_path: Path
) -> None:
    """Both on products of tokens (MatMul) and of vectors (Gemm), with and without optimizations."""
    calibrated = exported(tmp_path, activation, **weight)
    path = lowered(tmp_path, calibrated)
    products = [n for n in onnx.load(path).graph.node if n.op_type == "MatMulNBits"]
    assert [attribute(n, "block_size") for n in products] == blocks
    assert {attribute(n, "accuracy_level") for n in products} == {1}
    assert executed(path, tmp_path).count("MatMulNBits") == 3
    for optimized in (False, True):
        assert error(calibrated, path, optimized) <= EXACT


def test_int8_activations_come_only_when_asked_for(tmp_path: Path) -> None:
    calibrated = exported(tmp_path, **group(4, 16))
    assert error(calibrated, lowered(tmp_path, calibrated, "int8"), True) > 100 * EXACT
    assert error(calibrated, lowered(tmp_path, calibrated, "float"), True) <= EXACT


def test_activations_with_a_pair_of_their_own_are_not_rounded_twice(tmp_path: Path) -> None:
    calibrated = exported(tmp_path, {}, **group(4, 16))
    assert error(calibrated, lowered(tmp_path, calibrated, "int8"), True) <= EXACT


def test_groups_too_small_for_the_kernel_stay_dequantizelinear(tmp_path: Path) -> None:
    calibrated = exported(tmp_path, **group(6, 8))
    path = tmp_path / "m.onnx"
    report = lower(tmp_path / "qdq.onnx", calibrated, get_target("ort-x86"), path, {})
    declined = [n for n in report.notes if n.graph_pass == "packed_weights"]
    assert [n.applied for n in declined] == [False] * 3
    assert "groups of 8" in declined[0].text
    for optimized in (False, True):
        assert error(calibrated, path, optimized) <= EXACT


def test_without_the_pass_onnx_runtime_rounds_the_activations(tmp_path: Path) -> None:
    """Why the pass exists; should ONNX Runtime change its mind, this says so."""
    calibrated = exported(tmp_path, **group(4, 16))
    plain = replace(get_target("ort-x86"), packed_weights=False)
    lower(tmp_path / "qdq.onnx", calibrated, plain, tmp_path / "m.onnx", {})
    assert error(calibrated, tmp_path / "m.onnx", False) <= EXACT
    assert error(calibrated, tmp_path / "m.onnx", True) > 100 * EXACT


def attribute(node: onnx.NodeProto, name: str) -> int:
    return next(int(a.i) for a in node.attribute if a.name == name)


@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize(("depth", "size", "block"), [(512, 512, 256), (40, None, 32), (96, 48, 16)])
def test_blocks_keep_to_what_the_kernel_takes(
    depth: int, size: int | None, block: int, by_rows: bool, tmp_path: Path
) -> None:
    """Of 512 to a group, which 1.26 answered with zeros; of 40 inputs, which no block divides; of 48."""
    del tmp_path
    rng = np.random.default_rng(0)
    groups = depth // size if size else 1
    codes = rng.integers(0, 16, (6, depth))
    scale = rng.uniform(0.01, 0.02, (6, groups) if size else 6).astype(np.float32)
    zero = rng.integers(0, 16, scale.shape)
    wide = [np.repeat(a.reshape(6, -1), depth // groups, axis=1) for a in (scale.astype(np.float64), zero)]
    x = rng.standard_normal((3, depth)).astype(np.float32)
    expected = x.astype(np.float64) @ (wide[0] * (codes - wide[1])).T
    axis = (1 if by_rows else 0) if size else (0 if by_rows else 1)
    blocks = f", block_size={size}" if size else ""
    product = "Gemm<transB=1>" if by_rows else "MatMul"
    proto = parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 21]>
    g (float[N, {depth}] x) => (float[N, 6] y) {{
      w = DequantizeLinear<axis={axis}{blocks}>(codes, scale, zero)
      y = {product}(x, w)
    }}""")
    for name, array in (("codes", codes), ("scale", scale), ("zero", zero)):
        turned = array if by_rows else array.T
        kind = onnx.TensorProto.FLOAT if name == "scale" else onnx.TensorProto.UINT4
        proto.graph.initializer.append(
            helper.make_tensor(name, kind, turned.shape, turned.flatten().tolist())
        )
    model = ir.from_proto(proto)
    run_passes(model, [PackedWeights()])
    edited = ir.to_proto(model)
    (node,) = edited.graph.node
    assert (node.op_type, attribute(node, "block_size")) == ("MatMulNBits", block)
    for optimized in (False, True):
        got = run(edited, torch.from_numpy(x), optimized)
        assert np.abs(got - expected).max() <= EXACT * np.abs(expected).max()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("count", [5, 8])
def test_packing_puts_the_first_code_in_the_lowest_bits(bits: int, count: int) -> None:
    codes = np.random.default_rng(0).integers(0, 1 << bits, (3, count))
    got = pack(codes, bits)
    assert got.shape == (3, -(-count * bits // 8))
    for row, packed in zip(codes, got, strict=True):
        whole = sum(int(code) << (bits * i) for i, code in enumerate(row))  # one long number
        assert int.from_bytes(packed.tobytes(), "little") == whole


def sizes(path: Path) -> dict[str, NDArray[Any]]:
    return {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}


def test_the_file_holds_no_second_copy_of_a_weight(tmp_path: Path) -> None:
    calibrated = exported(tmp_path, **group(4, 16))
    stored = sizes(lowered(tmp_path, calibrated))
    assert stored["fc1.weight.packed"].nbytes == 64 * 48 // 2
    assert not [name for name, array in stored.items() if array.size >= 320 and not name.endswith("packed")]
