"""Name nodes after the modules that issued them, and drop the exporter's own metadata.

``blocks.7.mlp.fc2/MatMul``: an error of a runtime, a profile line or an audit row then names a layer of the
model. The exporter's stack traces and source listings would be a fifth of a small quantized file.
"""

import ast
from collections import Counter

import onnx_ir as ir

from export.passes.base import PassNote
from quant.errors import InternalError

__all__ = ["NameNodes"]

SCOPES = "pkg.torch.onnx.name_scopes"


class NameNodes:
    """The pass, see the module's text."""

    name = "name_nodes"

    def requires(self, model: ir.Model) -> None:
        """Nothing."""

    def run(self, model: ir.Model) -> list[PassNote]:
        """Name every node ``<module>/<operator>``, with a counter where that is taken."""
        taken: Counter[str] = Counter()
        for node in model.graph:
            module = _module(node)
            base = f"{module}/{node.op_type}" if module else node.op_type
            taken[base] += 1
            node.name = base if taken[base] == 1 else f"{base}_{taken[base]}"
            node.metadata_props.clear()
            node.doc_string = None
        for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
            value.metadata_props.clear()
        for node in model.graph:
            for output in node.outputs:
                output.metadata_props.clear()
        model.graph.metadata_props.clear()
        model.graph.doc_string = None
        return [PassNote(self.name, "", True, f"{sum(taken.values())} nodes named after their modules")]

    def ensures(self, model: ir.Model) -> None:
        """Names are unique."""
        names = Counter(node.name for node in model.graph)
        for name, count in names.items():
            if count > 1:
                raise InternalError(f"{count} nodes are called '{name}'")


def _module(node: ir.Node) -> str:
    """The last module in the exporter's scope list; its own last entry is the operator's name."""
    text = node.metadata_props.get(SCOPES)
    scopes = ast.literal_eval(text) if text else []
    return str(scopes[-2]) if len(scopes) >= 2 else ""
