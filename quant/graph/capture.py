"""``torch.export`` a model and bring the graph into the form that quantization works on."""

import logging
import warnings

import torch
from torch import Tensor, fx, nn

from quant.errors import BadInput, Unsupported
from quant.graph.attention import decompose_attention
from quant.graph.batch_norm import fold_batch_norm
from quant.graph.mutation import remove_mutation
from quant.graph.nodes import is_call
from quant.graph.parameters import set_parameter

__all__ = ["capture"]

aten = torch.ops.aten

_IDENTITIES = (aten.alias.default, aten.detach.default, aten.dropout.default, aten.dropout_.default)


def capture(model: nn.Module, example: Tensor, dynamic_batch: bool = True) -> fx.GraphModule:
    """Trace ``model`` for inference.

    The result calls ATen operators, each tied to its module's name (:func:`quant.graph.module_of`); weights
    keep their names. Attention is decomposed, dropout removed, batch normalization folded.

    Args:
        model: in eval mode; it is not changed.
        example: one input batch.
        dynamic_batch: leave axis 0 open.

    Returns:
        A graph module with one input and the model's output. Weights share the model's memory until
        something replaces them; none needs a gradient.

    Raises:
        BadInput: the model is in training mode, or does not accept the example.
        Unsupported: torch.export refuses it; the message holds the reason it gives.
    """
    if model.training:
        raise BadInput("the model is in training mode; call model.eval() before capturing it")
    dynamic = ({0: torch.export.Dim.DYNAMIC},) if dynamic_batch else None
    if dynamic_batch and len(example) == 1:
        example = torch.cat([example, example])  # torch.export takes a size of 1 for a constant
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model(example)
        except Exception as error:
            raise BadInput(
                f"the model does not run on an input of shape {list(example.shape)}: {_first_line(error)}; "
                "check the input size of its preprocessing"
            ) from error
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            program = torch.export.export(model, (example,), dynamic_shapes=dynamic)
        except Exception as error:
            raise Unsupported(
                f"torch.export refuses the model: {_first_line(error)}. Data-dependent control flow has to "
                "be replaced; https://docs.pytorch.org/docs/stable/export.html lists what can be exported"
            ) from error
        finally:
            logging.disable(previous)
        graph = program.module()
    assert isinstance(graph, fx.GraphModule)
    if len([n for n in graph.graph.nodes if n.op == "placeholder"]) != 1:
        raise Unsupported("models with exactly one tensor input are supported")
    for name, parameter in list(graph.named_parameters(remove_duplicate=False)):
        set_parameter(graph, name, parameter.detach())
    _remove_identities(graph)
    remove_mutation(graph)
    decompose_attention(graph)
    fold_batch_norm(graph)
    return graph


def _remove_identities(graph: fx.GraphModule) -> None:
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":
            graph.graph.erase_node(node)
        elif is_call(node, *_IDENTITIES) or (is_call(node, aten.pad.default) and not any(node.args[1])):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    if hasattr(graph, "_guards_fn"):
        del graph._guards_fn
    graph.graph.lint()
    graph.recompile()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
