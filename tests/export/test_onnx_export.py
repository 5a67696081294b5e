"""Files as users get them: opsets, batch sizes, whole operators, names, reproducibility."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from deploy.audit import audit_model
from export.lower import lower
from export.onnx_export import export_float, export_qdq
from export.parity import check_parity
from export.settings import NEWEST_OPSET, OLDEST_OPSET, ExportSettings
from export.targets import TARGETS, get_target
from quant.errors import Unsupported
from tests.export.small_models import Served, calibrated_of, images_of, run, simple_recipe, tiny_vit


def test_opsets_outside_the_supported_range_are_refused() -> None:
    for opset in (OLDEST_OPSET - 1, NEWEST_OPSET + 1):
        with pytest.raises(ValueError, match=f"{opset}.*{OLDEST_OPSET}.*{NEWEST_OPSET}"):
            ExportSettings(opset=opset)


@pytest.mark.parametrize("opset", [20, 21, 23])
def test_every_opset_computes_the_same(opset: int, vit: Served, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    export_qdq(vit.calibrated, vit.example, path, ExportSettings(opset=opset), {})
    assert {o.domain: o.version for o in onnx.load(path).opset_import}[""] == opset
    np.testing.assert_allclose(run(path, vit.images), run(vit.qdq, vit.images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_batch_is_open(batch: int, vit: Served) -> None:
    """Images do not influence each other, so each comes out as it does alone (float32 summation order)."""
    together = run(vit.qdq, vit.images)
    np.testing.assert_allclose(run(vit.qdq, vit.images[:batch]), together[:batch], rtol=0, atol=1e-5)


def test_layer_norm_and_gelu_stay_one_node_each(vit: Served, tmp_path: Path) -> None:
    export_float(vit.graph, vit.example, tmp_path / "fp32.onnx", ExportSettings(), {})
    for path in (tmp_path / "fp32.onnx", vit.qdq):
        counts = Counter(n.op_type for n in onnx.load(path).graph.node)
        assert (counts["LayerNormalization"], counts["Gelu"], counts["Softmax"]) == (3, 1, 1)
        assert not {"Erf", "Pow", "ReduceMean"} & set(counts)


def test_the_float_file_is_the_float_model(vit: Served, tmp_path: Path) -> None:
    """Two float32 implementations: 1e-5 of the largest logit."""
    path = tmp_path / "fp32.onnx"
    export_float(vit.graph, vit.example, path, ExportSettings(), {})
    with torch.no_grad():
        expected = vit.graph(vit.images).double().numpy()
    assert np.abs(run(path, vit.images) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_static_batch_still_runs_its_layers_in_integers(tmp_path: Path) -> None:
    images = images_of(4, 3, 32, 32)
    graph, calibrated = calibrated_of(tiny_vit(), images, dynamic=False)
    settings = ExportSettings(dynamic_batch=False)
    export_qdq(calibrated, images[:1], tmp_path / "qdq.onnx", settings, {})
    shape = onnx.load(tmp_path / "qdq.onnx").graph.input[0].type.tensor_type.shape
    assert [d.dim_value for d in shape.dim] == [1, 3, 32, 32]
    target = get_target("ort-x86")
    path = tmp_path / "x86.onnx"
    report = lower(tmp_path / "qdq.onnx", calibrated, target, path, {})
    audit = audit_model(path)
    assert audit.weight_share == 1
    assert not audit.unfused
    parity = check_parity(calibrated, report, graph, path, target, images, settings)
    assert parity.images == 4
    assert parity.layer_images == 1


def test_nodes_are_named_after_modules(vit: Served) -> None:
    modules = {name for name, _ in tiny_vit().named_modules() if name}
    nodes = onnx.load(vit.qdq).graph.node
    assert len({n.name for n in nodes}) == len(nodes)
    for node in nodes:
        if node.op_type in ("MatMul", "Gemm", "Conv", "LayerNormalization", "Gelu", "Softmax"):
            assert node.name.rpartition("/")[0] in modules, node.name
    assert {"blocks.0.mlp.fc2/MatMul", "head/Gemm"} <= {n.name for n in nodes}


def test_the_exporters_traces_are_gone(vit: Served) -> None:
    model = onnx.load(vit.qdq)
    for node in model.graph.node:
        assert not node.metadata_props
        assert not node.doc_string
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        assert not value.metadata_props
    assert b"site-packages" not in vit.qdq.read_bytes()


def test_the_same_input_gives_the_same_bytes(vit: Served, tmp_path: Path) -> None:
    def write(folder: Path) -> dict[str, bytes]:
        folder.mkdir()
        settings = ExportSettings()
        export_float(vit.graph, vit.example, folder / "fp32.onnx", settings, {"a": "1", "b": "2"})
        export_qdq(vit.calibrated, vit.example, folder / "qdq.onnx", settings, {"a": "1"})
        for target in TARGETS.values():
            lower(folder / "qdq.onnx", vit.calibrated, target, folder / f"{target.name}.onnx", {})
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    first, second = write(tmp_path / "first"), write(tmp_path / "second")
    assert len(first) == 2 + len(TARGETS)
    assert first == second


def test_metadata_survives_lowering(vit: Served, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    lower(vit.qdq, vit.calibrated, get_target("ort-x86"), path, {"octavo.more": "yes"}, "seven_bits")
    found = {p.key: p.value for p in onnx.load(path).metadata_props}
    assert found == {
        "octavo.kind": "vit",
        "octavo.more": "yes",
        "octavo.target": "ort-x86",
        "octavo.saturation_guard": "seven_bits",
    }


def test_an_operator_without_onnx_form_is_named(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = torch.special.bessel_j0(self.fc(x))
            return y

    images = images_of(4, 4)
    graph, calibrated = calibrated_of(Odd(), images, simple_recipe())
    with pytest.raises(Unsupported, match="bessel_j0"):
        export_float(graph, images[:2], tmp_path / "m.onnx", ExportSettings(), {})
    with pytest.raises(Unsupported, match="bessel_j0"):
        export_qdq(calibrated, images[:2], tmp_path / "m.onnx", ExportSettings(), {})
    assert not list(tmp_path.iterdir())


def test_a_model_is_written_as_it_is_where_simplifying_is_off(vit: Served, tmp_path: Path) -> None:
    notes = export_qdq(vit.calibrated, vit.example, tmp_path / "m.onnx", ExportSettings(simplify=False), {})
    assert notes.simplify is None
    np.testing.assert_allclose(run(tmp_path / "m.onnx", vit.images), run(vit.qdq, vit.images), atol=1e-5)
