"""Get the graph ONNX Runtime really executes, with the shape and type of every tensor the audit needs.

The session's optimized model is that graph (it has one node for each event of ORT's profile). The shapes come
from running it once with its inner tensors as outputs: the profile's own ``input_type_shape`` leaves out
every prepacked weight, so its positions do not match the node's inputs.
"""

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx import ModelProto, ValueInfoProto

from deploy.audit.graph import GraphIndex
from deploy.audit.macs import MAC_OPS
from deploy.audit.simulated import Simulated, find_simulated
from deploy.onnxruntime.build import Optimization, SessionSettings
from deploy.onnxruntime.run import NUMPY_TYPES, OrtRunner
from deploy.runner import Array
from quant.errors import BadInput, Unsupported

__all__ = ["QUANTIZE_OPS", "Executed", "TensorInfo", "execute"]

QUANTIZE_OPS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_INLINE_LIMIT = 1 << 30  # bytes of weights above which a protobuf file (2 GiB at most) keeps them beside it
_SEED = 0


@dataclass(frozen=True)
class TensorInfo:
    """Shape and element type of a tensor in the run."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


@dataclass(frozen=True)
class Executed:
    """A model as written and as ONNX Runtime executes it.

    Attributes:
        original: the model as given, local functions inlined, every node named.
        graph: the optimized model.
        tensors: what is known of the executed tensors, stored ones included.
        simulated: the exported functions that were inlined.
    """

    original: GraphIndex
    graph: GraphIndex
    tensors: Mapping[str, TensorInfo]
    simulated: tuple[Simulated, ...] = ()


def execute(
    path: Path,
    config: Mapping[str, str],
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    disabled_optimizers: Sequence[str] = (),
    optimization: Optimization = Optimization.ALL,
    graph: Path | None = None,
) -> Executed:
    """Optimize a model with ONNX Runtime and run the result once on a synthetic input of batch 1.

    Args:
        path: the ONNX file.
        config: session config entries that decide about fusion.
        input_shapes: shapes of inputs with unknown sizes beyond the first dimension.
        disabled_optimizers: ORT optimizers to leave out.
        optimization: how far the graph is rewritten; ``OFF`` gives the graph as written.
        graph: the graph that a session on another machine saved as what it executes, in place of the one that
            is made here.

    Raises:
        BadInput: the file is not a model, or an input's size is unknown.
    """
    model = _load(path)
    simulated = find_simulated(model)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _name_nodes(model)
    with tempfile.TemporaryDirectory(prefix="octavo-audit-") as folder:
        named, optimized, probe = (Path(folder) / f"{n}.onnx" for n in ("named", "optimized", "probe"))
        _save(model, named)
        settings = SessionSettings(
            optimization=optimization if graph is None else Optimization.OFF,
            optimized_model_path=optimized,
            disabled_optimizers=tuple(disabled_optimizers),
            config={
                **config,
                "session.optimized_model_external_initializers_file_name": "optimized.bin",
            },
        )
        try:
            with OrtRunner(named, settings) as runner:
                feeds = _feeds(runner, input_shapes or {})
        except BadInput as error:
            raise BadInput(str(error).replace(str(named), str(path))) from error
        except Unsupported as error:
            raise Unsupported(str(error).replace(str(named), str(path))) from error
        if graph is not None:
            _save(_load(graph), optimized)
        executed = onnx.load(str(optimized))
        tensors = {
            name: TensorInfo(tuple(t.dims), onnx.helper.tensor_dtype_to_np_dtype(t.data_type))
            for name, t in GraphIndex(executed).initializers.items()
        }
        _add_outputs(optimized, probe, _wanted(executed))
        with OrtRunner(probe, SessionSettings(optimization=Optimization.OFF)) as runner:
            try:
                values = runner.infer(feeds)
            except (BadInput, Unsupported) as error:
                raise type(error)(f"{path}: {error}") from error
    for name, value in (*feeds.items(), *values.items()):
        if isinstance(value, np.ndarray):
            tensors[name] = TensorInfo(value.shape, value.dtype)
    return Executed(GraphIndex(model), GraphIndex(executed), tensors, simulated)


def _load(path: Path) -> ModelProto:
    try:
        model = onnx.load(str(path))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
    except Exception as error:  # protobuf's DecodeError ships without types
        raise BadInput(f"{path}: not an ONNX model, or a truncated one: {error}") from error
    if not model.graph.node:
        raise BadInput(f"{path}: not an ONNX model, or a truncated one: the graph has no nodes")
    return model


def _name_nodes(model: ModelProto) -> None:
    """Give a name to nodes without one or with a used one; ORT's fusions build on names."""
    used: set[str] = set()
    for node in model.graph.node:
        if not node.name or node.name in used:
            node.name = f"{node.op_type}:{node.output[0]}"
        used.add(node.name)


def _save(model: ModelProto, path: Path) -> None:
    if sum(len(t.raw_data) for t in model.graph.initializer) > _INLINE_LIMIT:
        # `save` moves the weights out of the model it is given
        onnx.save(copy.deepcopy(model), str(path), save_as_external_data=True, location=f"{path.stem}.bin")
    else:
        onnx.save(model, str(path))


def _wanted(model: ModelProto) -> list[str]:
    stored = {t.name for t in model.graph.initializer}
    names: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type in MAC_OPS or node.op_type in QUANTIZE_OPS:
            names.update(dict.fromkeys((*node.input, *node.output)))
    inputs = {i.name for i in model.graph.input}
    return [n for n in names if n and n not in stored and n not in inputs]


def _add_outputs(source: Path, target: Path, names: Sequence[str]) -> None:
    model = onnx.load(str(source), load_external_data=False)
    present = {o.name for o in model.graph.output}
    model.graph.output.extend(ValueInfoProto(name=n) for n in names if n not in present)
    target.write_bytes(model.SerializeToString())


def _feeds(runner: OrtRunner, given: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    rng = np.random.default_rng(_SEED)
    unknown = set(given) - set(runner.input_names)
    if unknown:
        raise BadInput(
            f"shape given for {', '.join(sorted(unknown))}, but the model's inputs are "
            f"{', '.join(runner.input_names)}"
        )
    feeds: dict[str, Array] = {}
    for value in runner.session.get_inputs():
        dtype = NUMPY_TYPES.get(value.type)
        if dtype is None:
            raise Unsupported(f"input {value.name!r} is a {value.type}; the audit makes up tensors only")
        shape = _shape(value.name, value.shape, given.get(value.name))
        feeds[value.name] = (
            rng.standard_normal(shape).astype(dtype) if dtype.kind == "f" else np.zeros(shape, dtype)
        )
    return feeds


def _shape(name: str, dims: Sequence[int | str | None], given: Sequence[int] | None) -> tuple[int, ...]:
    if given is None:
        shape = [1 if i == 0 and not isinstance(d, int) else d for i, d in enumerate(dims)]
        if not all(isinstance(d, int) for d in shape):
            written = ", ".join("?" if d is None else str(d) for d in dims)
            raise BadInput(
                f"input {name!r} has the shape [{written}]; sizes beyond the batch are needed: give them, "
                f"e.g. --shape {name}={_example(shape)}"
            )
        return tuple(d for d in shape if isinstance(d, int))
    fits = len(given) == len(dims) and all(
        g >= 1 and (not isinstance(d, int) or d == g) for g, d in zip(given, dims, strict=True)
    )
    if not fits:
        raise BadInput(
            f"input {name!r}: the shape given, {'x'.join(map(str, given))}, does not fit the model's "
            f"[{', '.join('?' if d is None else str(d) for d in dims)}]"
        )
    return tuple(given)


def _example(shape: Sequence[int | str | None]) -> str:
    image = len(shape) == 4
    return "x".join(str(d) if isinstance(d, int) else ("224" if image and i > 1 else "3" if image else "16")
                    for i, d in enumerate(shape))  # fmt: skip
