"""What graph methods add to the float graph is written and lowered like the rest."""

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, fx

from export.lower import lower
from export.onnx_export import export_qdq
from export.settings import ExportSettings
from export.targets import get_target
from quant.calibrate import calibrate
from quant.graph import capture
from quant.recipe import Recipe, load_recipe
from tests.export.small_models import images_of, run, tiny_vit

OUTLIER = {"name": "outlier_units", "threshold": 1.5, "most": 0.5, "least_sqnr": -100}
SIDE_PATH = {"name": "outlier_side_path", "threshold": 1.5, "most": 0.5}


@pytest.fixture(scope="module")
def vit() -> tuple[fx.GraphModule, Tensor]:
    images = images_of(16, 3, 32, 32)
    return capture(tiny_vit().eval(), images[:2]), images


@pytest.mark.parametrize(
    ("methods", "operator"),
    [
        (load_recipe("int8_symmetric").model_dump()["methods"], "Sub"),
        ([SIDE_PATH, {"name": "centred_gelu"}, {"name": "bias_correction"}], "Sub"),
        ([OUTLIER | {"cure": "split"}], "Min"),
        ([OUTLIER | {"cure": "float"}], "Gelu"),
        (
            [
                {"name": "value_projection_scale", "centre": True},
                {"name": "query_key_scale", "exponent": 0.5},
            ],
            "Gelu",
        ),
    ],
    ids=["symmetric", "side-path", "split", "float", "attention"],
)
def test_the_lowered_file_computes_what_was_calibrated(
    vit: tuple[fx.GraphModule, Tensor], methods: list[dict], operator: str, tmp_path: Path
) -> None:
    graph, images = vit
    base = load_recipe("int8_symmetric").model_dump(mode="json")
    roles = base["roles"] | {"attention_qk.input": "activation"}
    chosen = Recipe.model_validate(base | {"methods": methods, "roles": roles})
    calibrated = calibrate(graph, chosen, lambda n: torch.split(images[:n], 8))
    export_qdq(calibrated, images[:2], tmp_path / "qdq.onnx", ExportSettings(), {})
    lower(tmp_path / "qdq.onnx", calibrated, get_target("tensorrt"), tmp_path / "trt.onnx", {})
    model = onnx.load(tmp_path / "trt.onnx")
    assert operator in [node.op_type for node in model.graph.node]
    with torch.no_grad():
        expected = calibrated.graph(images)  # lower leaves it quantizing in the target's formats
    found = torch.from_numpy(run(tmp_path / "trt.onnx", images))
    # float16 where nothing is quantized: 2^-11 of values of size 1, and now and then another code
    torch.testing.assert_close(found, expected.double(), rtol=0, atol=2e-2)
