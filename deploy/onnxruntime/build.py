"""Build an ONNX Runtime session with every setting that changes the numbers or the speed written out."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnxruntime as ort

from deploy.onnxruntime.providers import CPU, check_available, full_names
from quant.errors import BadInput, Unsupported

__all__ = [
    "EXACT_ON_X86",
    "Optimization",
    "SessionSettings",
    "build_session",
    "settings_from",
    "settings_to",
]

EXACT_ON_X86 = {"session.x64quantprecision": "1"}
"""Session config of the slower kernels whose integer products do not saturate on x86 without VNNI
(onnxruntime_session_options_config_keys.h)."""

_FATAL_ONLY = 4  # ORT log severity; every error also arrives as an exception
_NO_FALLBACK = "session.disable_cpu_ep_fallback"  # these two: onnxruntime_session_options_config_keys.h
_RECORD_NODES = "session.record_ep_graph_assignment_info"


class Optimization(enum.Enum):
    """How far ONNX Runtime may rewrite the graph before running it.

    ``BASIC`` keeps quantized nodes as written (bit-exact with ``OFF``); only ``ALL`` fuses Q/DQ into integer
    kernels.
    """

    OFF = "off"
    BASIC = "basic"
    ALL = "all"


_LEVELS = {
    Optimization.OFF: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    Optimization.BASIC: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    Optimization.ALL: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


@dataclass(frozen=True)
class SessionSettings:
    """What an ONNX Runtime session is built with.

    Attributes:
        providers: execution providers, in order of preference, by the names of
            :data:`deploy.onnxruntime.providers.PROVIDERS` or ONNX Runtime's own; kept as the latter. Nodes
            that none of them takes run on the CPU only where ``cpu`` is among them.
        intra_op_threads: threads inside one operator.
        inter_op_threads: operators run side by side.
        optimization: how far the graph may be rewritten.
        disabled_optimizers: names of single ORT optimizers to leave out, e.g. ``MatMulAddFusion``.
        config: session config entries, e.g. :data:`EXACT_ON_X86`.
        optimized_model_path: where ORT saves the graph it will execute, if anywhere.
        profile_prefix: path prefix of ORT's profile (JSON), if one is wanted.
    """

    providers: tuple[str, ...] = (CPU,)
    intra_op_threads: int = 1
    inter_op_threads: int = 1
    optimization: Optimization = Optimization.ALL
    disabled_optimizers: tuple[str, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    optimized_model_path: Path | None = None
    profile_prefix: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "providers", full_names(self.providers))


def settings_to(settings: SessionSettings) -> dict[str, Any]:
    """The settings that matter to numbers and speed, as JSON values."""
    return {
        "providers": list(settings.providers),
        "intra_op_threads": settings.intra_op_threads,
        "inter_op_threads": settings.inter_op_threads,
        "optimization": settings.optimization.value,
        "disabled_optimizers": list(settings.disabled_optimizers),
        "config": dict(settings.config),
    }


def settings_from(values: Mapping[str, Any]) -> SessionSettings:
    """The inverse of `settings_to`; what is not named keeps its default.

    Raises:
        BadInput: a key, a provider or the optimization is unknown.
    """
    known = settings_to(SessionSettings())
    unknown = [key for key in values if key not in known]
    if unknown:
        raise BadInput(f"unknown session settings {', '.join(unknown)}; known: {', '.join(known)}")
    given = dict(values)
    try:
        given["optimization"] = Optimization(given.get("optimization", "all"))
    except ValueError as error:
        raise BadInput(f"{error}; known: {', '.join(o.value for o in Optimization)}") from error
    for key in ("providers", "disabled_optimizers"):
        given[key] = tuple(given.get(key, known[key]))
    return SessionSettings(**given)


def build_session(
    model: Path | bytes, settings: SessionSettings | None = None, name: str = "model"
) -> ort.InferenceSession:
    """Build a session that uses exactly the providers and threads asked for.

    Args:
        model: an ONNX file, or its bytes.
        settings: see `SessionSettings`; None means the defaults.
        name: what messages call a model given as bytes.

    Raises:
        BadInput: the model cannot be read, or a setting is refused by ONNX Runtime.
        Unsupported: a provider is not in this ONNX Runtime, or was dropped without a word, or leaves nodes to
            the CPU that was not asked for, or an operator has no kernel.
    """
    settings = settings or SessionSettings()
    _check(settings)
    where = name if isinstance(model, bytes) else str(model)
    content: bytes | str = model if isinstance(model, bytes) else str(_readable(model))
    try:
        session = _session(content, settings)
    except ort.capi.onnxruntime_pybind11_state.NotImplemented as error:
        raise Unsupported(f"{where}: ONNX Runtime has no kernel for this model: {error}") from error
    except Exception as error:  # ORT's exceptions share no base class of their own
        _explain_fallback(content, settings, where)
        raise BadInput(
            f"{where}: ONNX Runtime {ort.__version__} cannot load it; the file may be truncated or "
            f"not an ONNX model: {error}"
        ) from error
    _check_used(session, settings)
    return session


def _session(content: bytes | str, settings: SessionSettings) -> ort.InferenceSession:
    return ort.InferenceSession(
        content,
        sess_options=_options(settings),
        providers=list(settings.providers),
        disabled_optimizers=list(settings.disabled_optimizers),
        enable_fallback=0,
    )


def _explain_fallback(content: bytes | str, settings: SessionSettings, where: str) -> None:
    """Tell the nodes that nobody but the CPU takes, where the model loads as soon as they may run there."""
    if CPU in settings.providers:
        return
    allowed = {**settings.config, _NO_FALLBACK: "0", _RECORD_NODES: "1"}
    try:
        session = _session(
            content, replace(settings, config=allowed, optimized_model_path=None, profile_prefix=None)
        )
    except Exception:  # something else is wrong with it; the caller has the first error
        return
    _check_used(session, settings)  # one that could not start leaves every node, and that is the reason
    groups = session.get_provider_graph_assignment_info()
    total = sum(len(group.get_nodes()) for group in groups)
    nodes = [node for group in groups if group.ep_name == CPU for node in group.get_nodes()]
    named = ", ".join(f"{node.op_type} '{node.name}'" if node.name else node.op_type for node in nodes[:3])
    more = f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
    raise Unsupported(
        f"{where}: {len(nodes)} of {total} nodes would run on the CPU: {named}{more}; "
        f"{' and '.join(settings.providers)} cannot run them; add `cpu` to `providers` to allow that"
    )


def _check(settings: SessionSettings) -> None:
    if settings.intra_op_threads < 1 or settings.inter_op_threads < 1:
        raise BadInput(
            f"threads must be at least 1, got intra-op {settings.intra_op_threads}, "
            f"inter-op {settings.inter_op_threads}"
        )
    for path in (settings.optimized_model_path, settings.profile_prefix):
        if path is not None and not path.parent.is_dir():
            raise BadInput(f"{path}: the folder {path.parent} does not exist")
    check_available(settings.providers)


def _check_used(session: ort.InferenceSession, settings: SessionSettings) -> None:
    used = session.get_providers()
    dropped = [p for p in settings.providers if p not in used]
    if dropped:
        raise Unsupported(
            f"ONNX Runtime could not start {', '.join(dropped)} and would have run on {', '.join(used)} "
            "instead; check that its libraries and driver are installed"
        )


def _readable(path: Path) -> Path:
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    if empty:
        raise BadInput(f"{path}: the file is empty")
    return path


def _options(settings: SessionSettings) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    options.intra_op_num_threads = settings.intra_op_threads
    options.inter_op_num_threads = settings.inter_op_threads
    options.graph_optimization_level = _LEVELS[settings.optimization]
    fallback = {} if CPU in settings.providers else {_NO_FALLBACK: "1"}
    for key, value in (fallback | dict(settings.config)).items():
        options.add_session_config_entry(key, value)
    if settings.optimized_model_path is not None:
        options.optimized_model_filepath = str(settings.optimized_model_path)
    if settings.profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(settings.profile_prefix)
    return options
