"""Inputs for a bundle, and ONNX Runtime's own answers to them, in this process."""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.bundle import Bundle, load_bundle
from quant.errors import BadInput

__all__ = ["TOP", "Samples", "make_samples"]

TOP = 3
"""Labels that are asked for."""


_SIDE = 64


@dataclass(frozen=True)
class Samples:
    """What clients send, and what must come back.

    Attributes:
        bundle: that is asked.
        name: of its input.
        output: name of its output.
        inputs: float32 [1, ...].
        outputs: ONNX Runtime's for them, float32 [1, ...].
        image: a PNG file.
        labels: the best answers to the image, as the server has to tell them.
    """

    bundle: Bundle
    name: str
    output: str
    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]
    image: bytes
    labels: list[dict[str, Any]]


def make_samples(path: Path, seed: int = 0) -> Samples:
    """Draw an input and an image, and ask ONNX Runtime.

    Raises:
        BadInput: the bundle's model does not take float32 images, or gives something else than float32.
    """
    bundle = load_bundle(path)
    taken, given = bundle.manifest.model_input, bundle.manifest.model_output
    if (taken.dtype, given.dtype) != ("float32", "float32") or len(taken.shape) != 4:
        raise BadInput(f"{path}: these bars need a bundle of a model from float32 images to float32 numbers")
    generator = np.random.default_rng(seed)
    sizes = [1, *(int(size or 1) for size in taken.shape[1:])]
    inputs = generator.standard_normal(sizes).astype(np.float32)
    pixels = generator.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    with bundle.runner() as runner:
        outputs = runner.infer({taken.name: inputs})[given.name]
        (answers,) = bundle.predict(runner, [file.getvalue()], TOP)
    labels = [asdict(answer) for answer in answers]
    return Samples(
        bundle, taken.name, given.name, inputs, outputs.astype(np.float32), file.getvalue(), labels
    )
