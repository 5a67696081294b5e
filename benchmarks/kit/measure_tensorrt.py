"""TensorRT for ``measure.py``, which loads this file from its own folder where a kit has models for TensorRT.

Needs tensorrt 10 or later, or TensorRT-RTX, and pycuda. An engine is built from a model of the kit on the GPU
that runs it, in a process of its own, and run as the rest of Octavo does (`deploy.tensorrt.run`), but without
CUDA graphs. Nothing is imported before it is needed, so that a device without these can say so.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

LIBRARIES = {"tensorrt": ("tensorrt",), "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
TIMED = (
    "one call: the input is copied to page-locked memory and to the GPU, execute_async_v3 on one stream "
    "without CUDA graphs, the answer is copied back and waited for"
)
PRECISION = "strongly typed; products that stay float32 are TensorRT's default, TF32 where the GPU has it"
NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64"}
AMPERE = 80
MIB = 2**20

if TYPE_CHECKING:  # an older Python, too, must get as far as saying that it is too old
    Json = dict[str, Any]


class Failed(Exception):
    """One model, or none at all, can be run here; the message says why."""


# ---- what is installed, and the GPU ----------------------------------------------------------------------


def absent() -> list[str]:
    """The packages that are not installed, as pip calls them."""
    modules = [module for names in LIBRARIES.values() for module in names]
    found = [] if any(map(importlib.util.find_spec, modules)) else ["tensorrt"]
    return found + ([] if importlib.util.find_spec("pycuda") else ["pycuda"])


def find_library() -> tuple[str, Any]:
    """Key of `LIBRARIES` and the module, the first that can be imported.

    Raises:
        Failed: none can, or it is too old.
    """
    why = []
    for key, names in LIBRARIES.items():
        for name in filter(importlib.util.find_spec, names):
            try:
                trt = importlib.import_module(name)
            except (ImportError, OSError, RuntimeError) as error:  # a stub without its libraries, for one
                why.append(f"{name}: {error}")
                continue
            if hasattr(trt, "Builder") and hasattr(trt, "OnnxParser"):
                if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") and hasattr(
                    trt.BuilderFlag, "FP16"
                ):
                    raise Failed(f"needs TensorRT 10 or later, this is {trt.__version__}")
                return key, trt
    raise Failed(f"TensorRT cannot be loaded: {'; '.join(why) or 'it is not installed'}")


def _driver() -> Any:
    try:
        cuda = importlib.import_module("pycuda.driver")
        cuda.init()
    except Exception as error:  # of the import without a driver, of CUDA without a GPU
        raise Failed(f"pycuda finds no GPU: {error}") from None
    return cuda


def describe() -> Json:
    """The GPU, the first that CUDA sees, and what runs it.

    Raises:
        Failed: nothing can be run here.
    """
    key, trt = find_library()
    cuda = _driver()
    gpu = cuda.Device(0)
    major, minor = gpu.compute_capability()
    api, bus = cuda.get_driver_version(), gpu.pci_bus_id()
    told = _ask_gpu(bus, "driver_version", "power.limit", "clocks.max.sm", "clocks.max.mem")
    driver, limit, sm, memory = told
    return {
        "name": gpu.name(),
        "compute": f"SM{major}{minor}",
        "memory_mib": gpu.total_memory() // MIB,
        "bus": bus,
        "cuda": f"{api // 1000}.{api % 1000 // 10}",
        "driver": driver,
        "power_limit_w": _number(limit),
        "max_sm_mhz": _number(sm),
        "max_memory_mhz": _number(memory),
        "library": key,
        "version": trt.__version__,
    }


def state(bus: str) -> Json:
    """What may change of a GPU, as far as nvidia-smi tells it."""
    celsius, watts, sm, memory = _ask_gpu(bus, "temperature.gpu", "power.draw", "clocks.sm", "clocks.mem")
    return {
        "celsius": _number(celsius),
        "watts": _number(watts),
        "sm_mhz": _number(sm),
        "memory_mhz": _number(memory),
    }


def memory_of_processes() -> dict[int, float]:
    """Process to its memory on all GPUs in MiB, as far as nvidia-smi tells it: not inside a container."""
    found: dict[int, float] = {}
    for line in _smi("--query-compute-apps=pid,used_gpu_memory"):
        pid, _, used = line.partition(",")
        number = _number(used)
        if pid.strip().isdigit() and number is not None:
            found[int(pid)] = found.get(int(pid), 0.0) + number
    return found


def _ask_gpu(bus: str, *fields: str) -> list[str | None]:
    lines = _smi(f"--query-gpu={','.join(fields)}", "-i", bus)
    values = [value.strip() for value in lines[0].split(",")] if lines else []
    if len(values) != len(fields):
        return [None] * len(fields)
    return [None if value.startswith("[") or value == "N/A" else value for value in values]  # [N/A]


def _smi(*question: str) -> list[str]:
    words = ["nvidia-smi", *question, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


# ---- engines ---------------------------------------------------------------------------------------------


def unfit(manifest: Path, gpu: Json, batch: int) -> str:
    """Why an engine of the kit is not for here; empty where it is. The rule is `deploy.tensorrt.manifest`'s.

    TensorRT may end the process on an engine of another version or GPU, so it never sees such a one.
    """
    told: Json = json.loads(manifest.read_text(encoding="utf-8"))
    how, built, here = told["settings"], told["device"], f"{gpu['name']} ({gpu['compute']})"
    if told["library"] != gpu["library"]:
        return f"is of {told['library']}, here is {gpu['library']}"
    then, now = _version(told["version"]), _version(gpu["version"])
    later = how["version_compatible"] and then[:1] == now[:1] and then <= now
    if told["version"] != gpu["version"] and not later:
        return f"was built with {told['version']}, here is {gpu['version']}"
    if built is None:
        if how["compute"] and gpu["compute"] not in how["compute"]:
            return f"was built for {', '.join(how['compute'])}, here is {here}"
    elif built != here and not (
        how["hardware_compatible"] and min(_compute(built), _compute(here)) >= AMPERE
    ):
        return f"was built on {built}, here is {here}"
    least, _, most = how["batches"]
    if least > 1 or most < batch:
        return f"takes batches of {least} to {most}; 1 to {batch} are measured"
    return ""


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _compute(device: str) -> int:
    digits = device.rpartition("(SM")[2].rstrip(")")
    return int(digits) if digits.isdigit() else 0


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]  # the base class comes with the library
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

        def first(self) -> str:
            return self.errors[0] if self.errors else "it gave no reason"

    return Logger()


def build(model: Path, plan: Path, batches: list[int]) -> Json:
    """Build an engine; what was built is at ``plan`` whole or not at all.

    Args:
        model: an ONNX file.
        plan: where to.
        batches: fewest, usual and most samples per call, for models with an open batch size.

    Raises:
        Failed: TensorRT does not take the model.
    """
    key, trt = find_library()
    by, logger = f"{key} {trt.__version__}", _logger(trt)
    began = time.perf_counter()
    try:
        builder = trt.Builder(logger)
    except TypeError:  # its constructor gave nothing
        raise Failed(f"{by} cannot build here: {logger.first()}") from None
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # 11 knows nothing else
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        told = [_parser_error(parser.get_error(i)) for i in range(parser.num_errors)]
        raise Failed(f"{by} cannot read it: {(told or [logger.first()])[0]}")
    config = builder.create_builder_config()
    profile, needed = builder.create_optimization_profile(), False
    for tensor in map(network.get_input, range(network.num_inputs)):
        shape = tuple(tensor.shape)
        if -1 in shape:
            profile.set_shape(tensor.name, *((batch, *shape[1:]) for batch in batches))
            needed = True
    if needed:
        config.add_optimization_profile(profile)
    content = builder.build_serialized_network(network, config)
    if content is None:
        raise Failed(f"{by} cannot build it: {logger.first()}")
    beside = plan.with_name(f".{plan.name}.part")
    beside.write_bytes(bytes(content))
    os.replace(beside, plan)
    return {"seconds": time.perf_counter() - began}


def _parser_error(error: Any) -> str:
    node = f"'{error.node_name()}' ({error.node_operator()}): " if error.node_name() else ""
    return f"{node}{' '.join(str(error.desc()).split())}"


# ---- running one -----------------------------------------------------------------------------------------


def runtime() -> tuple[Any, Any, dict[str, str]]:
    """TensorRT, pycuda's driver, and the versions of both.

    Raises:
        Failed: nothing can be run here.
    """
    key, trt = find_library()
    cuda = _driver()
    pycuda = sys.modules.get("pycuda")
    return trt, cuda, {key: trt.__version__, "pycuda": str(getattr(pycuda, "VERSION_TEXT", "unknown"))}


class Engine:
    """An engine with one input, with its context, stream and memory; `close` it before the process ends.

    Raises:
        Failed: it cannot be loaded.

    Attributes:
        most: samples in one call.
        used_mib: what it took of the GPU's memory: by how much less was free after loading and after calls.
            Other programs that allocate in these moments count, too.
    """

    def __init__(self, trt: Any, cuda: Any, plan: Path) -> None:
        import numpy

        self.numpy, self.cuda = numpy, cuda
        self.logger = _logger(trt)
        self.shape: tuple[int, ...] = ()
        self.primary = cuda.Device(0).retain_primary_context()
        self.primary.push()
        try:
            free = self.free_mib()
            self._load(trt, plan)
            self.used_mib = free - self.free_mib()
        except BaseException:
            self.close()
            raise

    def _load(self, trt: Any, plan: Path) -> None:
        self.runtime = trt.Runtime(self.logger)
        if hasattr(self.runtime, "engine_host_code_allowed"):
            self.runtime.engine_host_code_allowed = (
                True  # version-compatible ones bring a runtime of their own
            )
        self.engine = self.runtime.deserialize_cuda_engine(plan.read_bytes())
        if self.engine is None:
            raise Failed(f"TensorRT cannot load the engine: {self.logger.first()}")
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise Failed(f"TensorRT cannot make an execution context: {self.logger.first()}")
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        inputs = [n for n in names if self.engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        if len(inputs) != 1:
            raise Failed(f"the engine has the inputs {', '.join(inputs)}; one is measured")
        self.input, self.outputs = inputs[0], [name for name in names if name not in inputs]
        self.types = {name: self._type(name) for name in names}
        largest = tuple(self.engine.get_tensor_shape(self.input))
        if -1 in largest:
            largest = tuple(self.engine.get_tensor_profile_shape(self.input, 0)[2])
        self.most = largest[0]
        self._shape(largest)
        self.stream = self.cuda.Stream()
        self.host: Json = {}
        self.device: Json = {}
        for name in names:
            shape = tuple(self.context.get_tensor_shape(name))
            if -1 in shape:
                raise Failed(f"the shape of '{name}' depends on the data, which is not supported")
            self.host[name] = self.cuda.pagelocked_empty(shape, self.types[name])
            self.device[name] = self.cuda.mem_alloc(max(self.host[name].nbytes, 1))
            if not self.context.set_tensor_address(name, int(self.device[name])):
                raise Failed(f"TensorRT refused the memory of '{name}': {self.logger.first()}")

    def _type(self, name: str) -> Any:
        kind = str(self.engine.get_tensor_dtype(name).name)
        if kind not in NUMPY:
            raise Failed(f"'{name}' of the engine is {kind}; {', '.join(NUMPY)} are measured")
        return self.numpy.dtype(NUMPY[kind])

    def _shape(self, shape: tuple[int, ...]) -> None:
        if not self.context.set_input_shape(self.input, shape):
            raise Failed(f"TensorRT refused the shape {list(shape)}: {self.logger.first()}")
        self.shape = shape

    def call(self, feeds: Json) -> list[Any]:
        """From an array of the host to arrays of the host, which are the caller's own."""
        array, cuda, stream = feeds[self.input], self.cuda, self.stream
        if array.shape != self.shape:
            self._shape(array.shape)
        count = len(array)
        given = self.host[self.input][:count]
        given[...] = array
        cuda.memcpy_htod_async(self.device[self.input], given, stream)
        if not self.context.execute_async_v3(stream.handle):
            raise Failed(f"TensorRT could not run the engine: {self.logger.first()}")
        answers = [self.host[name][:count] for name in self.outputs]
        for name, answer in zip(self.outputs, answers):  # Python 3.9 has no `strict`
            cuda.memcpy_dtoh_async(answer, self.device[name], stream)
        stream.synchronize()
        return [answer.copy() for answer in answers]

    def count_used(self, free_before: float) -> float:
        """Add what calls took, where `free_mib` was that much before them; give what was taken in all."""
        self.used_mib += free_before - self.free_mib()
        return self.used_mib

    def free_mib(self) -> float:
        """Memory of the GPU that nobody uses."""
        return float(self.cuda.mem_get_info()[0]) / MIB

    def close(self) -> None:
        """Release everything, the library's objects before the GPU's context."""
        for name in ("context", "engine", "runtime", "host", "device", "stream"):
            self.__dict__.pop(name, None)
        self.cuda.Context.pop()
