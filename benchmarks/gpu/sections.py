"""What is measured, each part in a process of its own; a new part is a function with ``@section("name")``.

A part gives rows, one by one, so that what it has when its time is up is kept. Every row says what computed
it: a figure of TensorRT comes from TensorRT alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np

from benchmarks.gpu.clock import Meter, Timed, time_calls
from benchmarks.gpu.kit import Kit
from benchmarks.metrics import Floats, sqnr_db
from deploy.runner import Array
from quant.errors import OctavoError, Unsupported

__all__ = ["SECTIONS", "Budget", "Row", "rows_of", "section"]

BATCHES = (1, 8)
_LONGEST = 500  # characters of an error


@dataclass(frozen=True)
class Budget:
    """How long things take.

    Attributes:
        seconds: of each timing.
        device: ``cuda``, or ``cpu`` to try the parts out that PyTorch does.
    """

    seconds: float = 1.0
    device: str = "cuda"


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        by: what computed it, with its version.
        what: a model of the kit, or the shape of a product.
        batch: images per call; of a product, its rows.
        timed: what calls took, from host memory to host memory for models; None where it could not be run.
        more: accuracy, memory, size: what there is.
        note: why it could not be run, or what a reader must know.
    """

    by: str
    what: str
    batch: int
    timed: Timed | None
    more: dict[str, Any]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; infinity, which JSON has not, as text."""
        more = {k: str(v) if isinstance(v, float) and not isfinite(v) else v for k, v in self.more.items()}
        return {**asdict(self), "more": more}


Section = Callable[[Kit, Budget], Iterator[Row]]

SECTIONS: dict[str, Section] = {}
"""Name to part, in the order in which they are measured."""


def section(name: str) -> Callable[[Section], Section]:
    """Register a part under a name."""

    def register(function: Section) -> Section:
        SECTIONS[name] = function
        return function

    return register


@section("tensorrt")
def _tensorrt(kit: Kit, budget: Budget) -> Iterator[Row]:
    """Engines of the kit's files by TensorRT."""
    yield from _engines("tensorrt", kit, budget)


@section("tensorrt_rtx")
def _tensorrt_rtx(kit: Kit, budget: Budget) -> Iterator[Row]:
    """Engines of the kit's files by TensorRT-RTX."""
    yield from _engines("tensorrt_rtx", kit, budget)


@section("torch")
def _torch(kit: Kit, budget: Budget) -> Iterator[Row]:
    """The float model in PyTorch: float32, float16, compiled. Random weights: it is timed alone."""
    import timm
    import torch

    if kit.model is None:
        raise Unsupported("the kit's model is not timm's, so PyTorch cannot build it here")
    model = timm.create_model(kit.model["name"], **kit.model["kwargs"]).eval().to(budget.device)
    images = kit.images()
    cuda = budget.device == "cuda"
    for compiled, dtype in ((False, torch.float32), (False, torch.float16), (True, torch.float16)):
        kind = str(dtype).removeprefix("torch.")
        by = f"PyTorch {torch.__version__}, {kind}{', compiled' if compiled else ''}"
        whole: Any = model.to(dtype)
        for batch in BATCHES:
            some = torch.from_numpy(_repeat(images, batch)).to(dtype)
            some = some.pin_memory() if cuda else some
            run = torch.compile(whole, mode="max-autotune" if cuda else "default") if compiled else whole

            def call(run: Any = run, some: Any = some) -> Any:
                with torch.inference_mode():
                    return run(some.to(budget.device, non_blocking=True)).cpu()

            yield _timed(by, "fp32", batch, call, budget, _torch_memory(torch, cuda))


@section("gemm")
def _gemm(kit: Kit, budget: Budget) -> Iterator[Row]:
    """The model's linear layers as single products: float16, INT8 (`_int_mm`) and FP8 (`_scaled_mm`)."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for product in kit.products:
        for batch in BATCHES:
            rows = -(-max(product.rows * batch, 17) // 8) * 8  # _int_mm takes more than 16, multiples of 8
            what = f"{product.layer} ({product.count}×): [{rows}, {product.inner}] × {product.outer}"
            a = torch.randn(rows, product.inner, generator=generator)
            b = torch.randn(product.inner, product.outer, generator=generator)
            for by, call in _products(torch, a, b, budget.device):
                yield _timed(f"PyTorch {torch.__version__}, {by}", what, rows, call, budget, {})


@section("onnxruntime")
def _onnxruntime(kit: Kit, budget: Budget) -> Iterator[Row]:
    """The kit's files by ONNX Runtime's CUDA provider, where the installed one has it."""
    import onnxruntime as ort

    from deploy.onnxruntime.build import SessionSettings
    from deploy.onnxruntime.run import OrtRunner

    provider = "CUDAExecutionProvider"
    if provider not in ort.get_available_providers():
        raise Unsupported(f"the installed ONNX Runtime {ort.__version__} has no {provider}")
    for name, file in kit.models.items():
        by = f"ONNX Runtime {ort.__version__}, {provider}"
        try:
            with OrtRunner(file, SessionSettings(providers=(provider, "CPUExecutionProvider"))) as runner:
                yield from rows_of(by, name, runner, kit, budget)
        except Exception as error:
            yield _failed(by, name, 0, error)


def _engines(key: str, kit: Kit, budget: Budget) -> Iterator[Row]:
    from benchmarks.gpu.engines import built
    from deploy.tensorrt.library import find_library
    from deploy.tensorrt.run import TensorRtRunner

    library = find_library(key)
    by = f"{library.name} {library.version}"
    for name, file in kit.models.items():
        try:
            engine = built(file, key, BATCHES)
            with TensorRtRunner(engine.plan, machine=engine.machine) as runner:
                more = {
                    "engine_mib": engine.plan.stat().st_size / 2**20,
                    "build_s": engine.seconds,
                    **engine.coverage(runner, file),
                }
                for row in rows_of(by, name, runner, kit, budget):
                    yield Row(row.by, row.what, row.batch, row.timed, {**row.more, **more}, runner.graph_note)
        except Exception as error:
            yield _failed(by, name, 0, error)


def rows_of(by: str, name: str, runner: Any, kit: Kit, budget: Budget) -> Iterator[Row]:
    """Accuracy on all samples, then the time of each batch size.

    Args:
        by: what computes.
        name: of the kit's model.
        runner: that model, open.
        kit: it is from.
        budget: of the timings.
    """
    images, step = kit.images(), max(BATCHES)
    (feed,), (output,) = runner.input_names, runner.output_names

    def answer(some: Array) -> Floats:
        found: Floats = runner.infer({feed: some})[output]
        return found

    answers = np.concatenate([answer(images[i : i + step]) for i in range(0, len(images), step)])
    accuracy = {
        f"{figure}_{whom}": value
        for whom, logits in (("float", kit.logits("fp32")), ("onnxruntime", kit.logits(name)))
        for figure, value in (
            ("sqnr_db", sqnr_db(logits, answers)),
            ("agreement", float((answers.argmax(1) == logits.argmax(1)).mean())),
        )
    }
    meter = Meter()
    for batch in BATCHES:
        some = _repeat(images, batch)
        timed = time_calls(lambda some=some: answer(some), budget.seconds, meter)  # type: ignore[misc]
        yield Row(by, name, batch, timed, {**accuracy, "device_used_mib": meter.used_mib()})


def _timed(
    by: str, what: str, batch: int, call: Callable[[], Any], budget: Budget, more: dict[str, Any]
) -> Row:
    try:
        return Row(by, what, batch, time_calls(call, budget.seconds, Meter()), more)
    except Exception as error:
        return _failed(by, what, batch, error)


def _failed(by: str, what: str, batch: int, error: Exception) -> Row:
    """What a library does not take on this device is a row, too, and the others are still measured."""
    said = " ".join(str(error).split())[:_LONGEST]
    note = said if isinstance(error, OctavoError) else f"{type(error).__name__}: {said}"
    return Row(by, what, batch, None, {}, note)


def _products(torch: Any, a: Any, b: Any, device: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The same product in three formats; each call waits for the device."""

    def waiting(product: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> None:
            product()
            if device == "cuda":
                torch.cuda.synchronize()

        return call

    half = [x.to(device, torch.float16) for x in (a, b)]
    yield "float16 product", waiting(lambda: half[0] @ half[1])
    # The second factor lies column by column, as weights [O, I] do.
    codes = [(x * 30).round().clamp(-127, 127).to(device, torch.int8) for x in (a, b.T.contiguous())]
    yield "INT8 product (_int_mm)", waiting(lambda: torch._int_mm(codes[0], codes[1].T))
    small = [x.to(device, torch.float8_e4m3fn) for x in (a, b.T.contiguous())]
    one = torch.ones((), device=device)
    yield (
        "FP8 product (_scaled_mm)",
        waiting(
            lambda: torch._scaled_mm(small[0], small[1].T, scale_a=one, scale_b=one, out_dtype=torch.float16)
        ),
    )


def _torch_memory(torch: Any, cuda: bool) -> dict[str, Any]:
    return {"allocated_mib": torch.cuda.memory_allocated() / 2**20} if cuda else {}


def _repeat(images: Array, batch: int) -> Array:
    """The first ``batch`` images, from the start again where there are fewer."""
    return np.ascontiguousarray(images[np.arange(batch) % len(images)])
