"""Add the functions that nodes of the domain ``octavo`` call to the model."""

import onnx
import onnx_ir as ir

from export.functions import channel_codes, layer_norm, log2_codes, softmax
from export.passes.base import PassNote
from quant.errors import InternalError

__all__ = ["DOMAIN", "AddFunctions", "function_proto"]

DOMAIN = "octavo"
_BODIES = {
    layer_norm.NAME: layer_norm.BODY,
    softmax.SOFTMAX_NAME: softmax.SOFTMAX_BODY,
    softmax.MATMUL_NAME: softmax.MATMUL_BODY,
    channel_codes.NAME: channel_codes.BODY,
    log2_codes.NAME: log2_codes.BODY,
}


def function_proto(name: str, opset: int) -> onnx.FunctionProto:
    """The function called ``name``, its body in standard operators of ``opset``."""
    return onnx.parser.parse_function(f'<domain: "{DOMAIN}", opset_import: ["": {opset}]>{_BODIES[name]}')


class AddFunctions:
    """The pass, see the module's text."""

    name = "add_functions"

    def requires(self, model: ir.Model) -> None:
        """Every node of the domain is known."""
        for node in _calls(model):
            if node.op_type not in _BODIES:
                raise InternalError(f"'{node.name}' calls the unknown function '{node.op_type}'")

    def run(self, model: ir.Model) -> list[PassNote]:
        """Add each function that is called."""
        used = sorted({node.op_type for node in _calls(model)})
        for name in used:
            function = ir.serde.deserialize_function(function_proto(name, model.opset_imports[""]))
            model.functions[function.identifier()] = function
        if used:
            model.opset_imports[DOMAIN] = 1
        return [PassNote(self.name, name, True, "added as a function of standard operators") for name in used]

    def ensures(self, model: ir.Model) -> None:
        """Every node of the domain has its function."""
        known = {identifier[1] for identifier in model.functions if identifier[0] == DOMAIN}
        for node in _calls(model):
            if node.op_type not in known:
                raise InternalError(f"'{node.name}' calls '{node.op_type}', which the model does not define")


def _calls(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.domain == DOMAIN]
