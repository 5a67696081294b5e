"""The kit that travels to a machine with a GPU: models, a few samples, and what is to be timed.

- ``kit.json``: the model's name and the shapes of its linear layers
- ``models/<name>.onnx``: what engines are built of
- ``samples.npz``: images float16 [N, C, H, W], and the logits of each model by ONNX Runtime
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.metrics import Floats
from deploy.onnxruntime.build import Optimization, SessionSettings
from deploy.onnxruntime.run import OrtRunner
from quant.errors import BadInput

__all__ = ["Kit", "Product", "open_kit", "prepare"]

_ABOUT, _SAMPLES, _MODELS, _LOGITS = "kit.json", "samples.npz", "models", "logits."


@dataclass(frozen=True)
class Product:
    """A linear layer as a matrix product [rows × batch, inner] × [inner, outer].

    Attributes:
        layer: one of those that have this shape.
        count: how many have it.
        rows: of one image.
        inner: input features.
        outer: output features.
    """

    layer: str
    count: int
    rows: int
    inner: int
    outer: int


@dataclass(frozen=True)
class Kit:
    """An open kit.

    Attributes:
        folder: it lies in.
        model: what PyTorch calls it: a name and keyword arguments for timm; None for other models.
        products: shapes of its linear layers.
    """

    folder: Path
    model: dict[str, Any] | None
    products: tuple[Product, ...]

    @property
    def models(self) -> dict[str, Path]:
        """Name to ONNX file, the float model first."""
        files = sorted((self.folder / _MODELS).glob("*.onnx"), key=lambda f: (f.stem != "fp32", f.stem))
        return {file.stem: file for file in files}

    def images(self) -> Floats:
        """The samples, float32 [N, C, H, W]."""
        with np.load(self.folder / _SAMPLES) as stored:
            return np.asarray(stored["images"], dtype=np.float32)

    def logits(self, name: str) -> Floats:
        """What a model answers to them [N, K], by ONNX Runtime on a CPU as ONNX defines its operators."""
        with np.load(self.folder / _SAMPLES) as stored:
            return np.asarray(stored[f"{_LOGITS}{name}"], dtype=np.float32)


def prepare(run: Path, folder: Path, images: int = 32, chosen: Sequence[str] = ()) -> Kit:
    """Pack a run that is lowered for target tensorrt.

    Args:
        run: its folder.
        folder: where to; it must not exist.
        images: how many samples.
        chosen: the variants to take beside ``fp32``; all where empty.

    Raises:
        BadInput: the run is not lowered for TensorRT, has no such variant, or the folder exists.
    """
    from deploy.pipeline.images import Spread
    from deploy.pipeline.line import open_run
    from deploy.tensorrt.runs import variants
    from quant.data.batches import batches

    if images < 1:
        raise BadInput(f"a kit needs at least 1 sample, got {images}")
    line = open_run(run)
    files = {name: line.workspace.path(file) for name, file in variants(line).items()}
    for name in chosen:
        if name not in files:
            raise BadInput(f"{run}: has no variant '{name}'; it has {', '.join(files)}")
    files = {name: file for name, file in files.items() if not chosen or name in ("fp32", *chosen)}
    missing = [str(file) for file in files.values() if not file.is_file()]
    if missing:
        raise BadInput(f"{missing[0]}: does not exist; `octavo lower {run}` writes it")
    if folder.exists():
        raise BadInput(f"{folder}: exists already; name another folder")
    some = Spread(line.calibration, images)
    (batch,) = batches(some, line.loaded.preprocessing, len(some))
    samples = batch.images.numpy().astype(np.float16)
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / _MODELS).mkdir(parents=True)
        for name, file in files.items():
            shutil.copyfile(file, partial / _MODELS / f"{name}.onnx")
        rounded = samples.astype(np.float32)
        logits: dict[str, Any] = {f"{_LOGITS}{n}": _run_onnx(file, rounded) for n, file in files.items()}
        np.savez_compressed(partial / _SAMPLES, images=samples, **logits)
        config = line.config.model
        timm = None if ":" in config.name else {"name": config.name, "kwargs": config.kwargs}
        about = {"model": timm, "products": [asdict(product) for product in _products(line.graph)]}
        (partial / _ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return open_kit(folder)


def open_kit(folder: Path) -> Kit:
    """Open a kit.

    Raises:
        BadInput: the folder is none.
    """
    try:
        about = json.loads((folder / _ABOUT).read_bytes())
        products = tuple(Product(**product) for product in about["products"])
        return Kit(folder, about["model"], products)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder}: is not a kit; `python -m benchmarks.gpu prepare RUN` makes one") from error


def _run_onnx(model: Path, images: Floats) -> Floats:
    with OrtRunner(model, SessionSettings(optimization=Optimization.OFF)) as runner:
        (name,), (output,) = runner.input_names, runner.output_names
        return np.concatenate([runner.infer({name: part})[output] for part in np.array_split(images, 4)])


def _products(graph: Any) -> list[Product]:
    from quant.census import LayerKind, take_census

    found: dict[tuple[int, int, int], list[str]] = {}
    for layer in take_census(graph):
        if layer.kind is LayerKind.LINEAR:
            rows = layer.macs // layer.weights
            shape = (rows, layer.inputs // rows, layer.outputs // rows)
            found.setdefault(shape, []).append(layer.name)
    return [Product(names[0], len(names), *shape) for shape, names in found.items()]
