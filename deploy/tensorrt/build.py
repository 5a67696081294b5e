"""Build an engine from an ONNX file.

TensorRT 11 has no flags for precision and no calibrators: what the file says is what runs. TensorRT 8 knows
nothing else (:mod:`deploy.tensorrt.weak_typing`). The rules of what is taken are checked first, so that a
refusal names a module of the model; what the builder itself refuses is told with the modules that its message
mentions.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from deploy.tensorrt.library import Library
from deploy.tensorrt.listeners import logger_of, monitor_of
from deploy.tensorrt.rules import check_model
from deploy.tensorrt.rules.graph import Graph, layer_of
from deploy.tensorrt.settings import EngineSettings, engine_settings
from deploy.tensorrt.weak_typing import check_weakly_typed, is_weakly_typed, precision_flags
from quant.errors import BadInput, Unsupported
from quant.progress import Progress, silent

__all__ = ["EngineSettings", "build_plan", "check_file", "check_settings", "engine_settings"]

_FLAGS = {
    "version_compatible": "VERSION_COMPATIBLE",
    "refit": "REFIT",
    "weight_streaming": "WEIGHT_STREAMING",
}
"""Settings to the flags of the builder that they are."""


def check_file(path: Path) -> onnx.ModelProto:
    """Read a model, and refuse what TensorRT would refuse.

    Returns:
        The model, without data that is kept in other files.

    Raises:
        BadInput: it cannot be read, or is not a valid ONNX model.
        Unsupported: it breaks a rule of :mod:`deploy.tensorrt.rules`.
    """
    try:
        onnx.checker.check_model(str(path))  # with what it keeps in other files
        model = onnx.load(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from error
    except (DecodeError, onnx.checker.ValidationError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInput(f"{path}: is not a valid ONNX model; it may be truncated: {reason}") from error
    graph, newest = Graph(model), onnx.defs.onnx_opset_version()
    if graph.opset > newest:  # checker and builder would read it by the rules of the newest that they know
        raise BadInput(f"{path}: has opset {graph.opset}; export with opset {newest} or earlier")
    for name, tensor in graph.tensors.items():
        if tensor.data_type not in onnx.TensorProto.DataType.values():
            raise BadInput(
                f"{path}: is not a valid ONNX model: '{name}' has the unknown type {tensor.data_type}"
            )
    check_model(model, str(path))
    return model


def build_plan(
    path: Path,
    settings: EngineSettings,
    library: Library,
    timing_cache: bytes = b"",
    progress: Progress = silent,
) -> tuple[bytes, bytes]:
    """Build an engine in this process. A library that crashes takes the process with it.

    Args:
        path: a model that :func:`check_file` accepts.
        settings: see :class:`EngineSettings`.
        library: what builds.
        timing_cache: of an earlier build; empty for none.
        progress: told the builder's phases.

    Returns:
        The serialized engine, and the timing cache after it, empty where the library keeps none.

    Raises:
        BadInput: a setting does not fit the model or the library.
        Unsupported: the library refused the model; the message names the modules it mentions.
    """
    trt = library.module
    logger = logger_of(trt)
    builder = trt.Builder(logger)
    if builder is None:
        raise Unsupported(f"{library.name} {library.version} cannot build here: {logger.last()}")
    check_settings(settings, library)
    graph = Graph(onnx.load(path, load_external_data=False))
    if is_weakly_typed(trt):
        check_weakly_typed(graph, str(path), library)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    layers = {node.name: layer_of(node) for node in graph.nodes if node.name}
    if not parser.parse_from_file(str(path)):
        told = [_parser_error(parser.get_error(i), graph) for i in range(parser.num_errors)] or [
            logger.last()
        ]
        raise Unsupported(f"{path}: {library.name} {library.version} cannot read it: {told[0]}")
    config = _config(trt, builder, settings, library, progress)
    for flag in precision_flags(graph) if is_weakly_typed(trt) else ():
        config.set_flag(_member(trt.BuilderFlag, flag, library))
    _add_profiles(builder, network, config, settings)
    cache = _with_timing_cache(config, timing_cache) if library.needs_gpu else None  # RTX times on the GPU
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Unsupported(
            f"{path}: {library.name} {library.version} cannot build it{_mentioned(logger.messages, layers)}: "
            f"{logger.last()}"
        )
    after = b"" if cache is None else bytes(config.get_timing_cache().serialize())
    return bytes(plan), after


def _network_flags(trt: Any) -> int:
    """Strongly typed where there is a choice; TensorRT 8 has none, and is told that shapes have a batch."""
    flags = trt.NetworkDefinitionCreationFlag
    known = [flag for flag in ("STRONGLY_TYPED", "EXPLICIT_BATCH") if hasattr(flags, flag)]
    return 1 << int(getattr(flags, known[0])) if known else 0


def _config(trt: Any, builder: Any, settings: EngineSettings, library: Library, progress: Progress) -> Any:
    config = builder.create_builder_config()
    if settings.optimization_level is not None:
        config.builder_optimization_level = settings.optimization_level
    if settings.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    for name, flag in _FLAGS.items():
        if getattr(settings, name):
            config.set_flag(_member(trt.BuilderFlag, flag, library))
    if settings.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if settings.compute:
        _set_compute(config, settings.compute, library)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that an audit can look inside
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = monitor_of(trt, progress)
    return config


def check_settings(settings: EngineSettings, library: Library) -> None:
    """Refuse what the library cannot be told.

    Raises:
        BadInput: it is too old for a setting, has no choice of GPUs, or does not know one of them.
    """
    trt = library.module
    known = {name: flag in trt.BuilderFlag.__members__ for name, flag in _FLAGS.items()}
    known["optimization_level"] = hasattr(trt.IBuilderConfig, "builder_optimization_level")
    known["hardware_compatible"] = hasattr(trt, "HardwareCompatibilityLevel")
    for name, has in known.items():
        if getattr(settings, name) not in (None, False) and not has:
            raise BadInput(f"{library.name} {library.version} has no setting for `{name}`: leave it out")
    _capabilities(settings.compute, library)


def _set_compute(config: Any, names: Sequence[str], library: Library) -> None:
    capabilities = _capabilities(names, library)
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(capability, index)


def _capabilities(names: Sequence[str], library: Library) -> list[Any]:
    if names and not hasattr(library.module, "ComputeCapability"):
        raise BadInput(f"{library.name} builds for this machine's GPU only: leave out `compute`")
    return [_member(library.module.ComputeCapability, name, library) for name in names]


def _member(kind: Any, name: str, library: Library) -> Any:
    known = kind.__members__
    if name not in known:
        raise BadInput(f"{library.name} {library.version} has no '{name}'; it has {', '.join(known)}")
    return known[name]


def _add_profiles(builder: Any, network: Any, config: Any, settings: EngineSettings) -> None:
    """One profile; every open size but the first must be known."""
    profile, needed = builder.create_optimization_profile(), False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 not in shape:
            continue
        if -1 in shape[1:]:
            raise BadInput(
                f"input '{tensor.name}' has the shape {list(shape)}: only the batch size may be open; export "
                "the other sizes as numbers"
            )
        profile.set_shape(tensor.name, *((batch, *shape[1:]) for batch in settings.batches))
        needed = True
    if needed:
        config.add_optimization_profile(profile)


def _with_timing_cache(config: Any, content: bytes) -> Any:
    """The cache in use; None where the library keeps none."""
    cache = config.create_timing_cache(content) or config.create_timing_cache(b"")
    if cache is None or not config.set_timing_cache(cache, False):
        return None
    return cache


def _parser_error(error: Any, graph: Graph) -> str:
    """TensorRT 8 tells the place of a node in the file, later ones its name, which may be of a function."""
    if hasattr(error, "node_name"):
        node, operator = str(error.node_name()), str(error.node_operator())
        layer = node.rpartition("/")[0] or node
    else:
        (found,) = graph.nodes[error.node() : error.node() + 1] or (None,)
        layer, operator = (layer_of(found), found.op_type) if found is not None else ("", "")
    where = f"'{layer}' ({operator}): " if layer else ""
    return f"{where}{' '.join(str(error.desc()).split())}"


def _mentioned(messages: Sequence[str], layers: dict[str, str]) -> str:
    """The modules of nodes that messages name; the longest names first, for one may contain another."""
    text = " ".join(messages)
    found: dict[str, None] = {}
    for node in sorted(layers, key=len, reverse=True):
        if re.search(rf"(?<![\w./]){re.escape(node)}(?![\w./])", text):
            found[layers[node]] = None
    return f" (at {', '.join(repr(name) for name in list(found)[:3])})" if found else ""
