import pytest
from onnx import helper, parser

from deploy.audit.graph import GraphIndex, module_name

TEXT = """
<ir_version: 9, opset_import: ["" : 17]>
g (float[2, 3] x) => (float[3, 2] y) <float[3] w = {1, 2, 3}, int64[2] perm = {1, 0}>
{ two = Mul(w, w)  h = Add(x, two)  t = Transpose<perm = [1, 0]>(h)  y = Relu(t) }
"""


@pytest.fixture
def index() -> GraphIndex:
    return GraphIndex(parser.parse_model(TEXT))


def test_constants_are_followed_through_operators(index: GraphIndex) -> None:
    assert index.is_constant("two")
    assert not index.is_constant("h")


def test_layout_operators_are_walked_past_in_both_directions(index: GraphIndex) -> None:
    tensor, source = index.past_layout("t")
    assert tensor == "h"
    assert source is not None
    assert source.op_type == "Add"
    assert [n.op_type for n in index.readers("h")] == ["Relu"]


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("blocks.7.mlp.fc2/MatMul", "blocks.7.mlp.fc2"),
        ("/blocks/blocks.7/mlp/fc2/MatMul", "blocks.7.mlp.fc2"),
        ("/patch_embed/proj/Conv", "patch_embed.proj"),
        ("node_17", "node_17"),
    ],
)
def test_module_from_the_node_name(index: GraphIndex, name: str, module: str) -> None:
    assert module_name(helper.make_node("MatMul", ["x", "two"], ["z"], name=name), index) == module


def test_module_from_the_metadata_and_from_the_weight(index: GraphIndex) -> None:
    node = helper.make_node("MatMul", ["x"], ["z"], name="node_1")
    entry = node.metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", "['', 'blocks.0', 'blocks.0.attn.qkv', 'linear']"
    assert module_name(node, index) == "blocks.0.attn.qkv"

    index.graph.initializer.add(name="head.weight", data_type=1, dims=[1], float_data=[1.0])
    fresh = GraphIndex(index.model)
    assert module_name(helper.make_node("Gemm", ["x", "head.weight"], ["z"], name="node_2"), fresh) == "head"
