"""An image as JPEG or PNG to labels with scores."""

import asyncio
import io
import time
import warnings
from concurrent.futures import Executor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploy.bundle import Bundle
from deploy.bundle.preprocess import ImageInput
from deploy.serve.model import ServedModel
from deploy.serve.refusal import Refused, bad_request
from deploy.serve.service import Service
from deploy.serve.tensors import whole_number
from quant.errors import BadInput

__all__ = ["classify"]

Image.MAX_IMAGE_PIXELS = None  # the limit here is the server's own
warnings.filterwarnings("ignore", module=r"PIL\.")  # of strangers' files, kept and written by Python as text
_FORMATS = ("JPEG", "PNG")
_MOST_TOP = 1000


async def classify(
    service: Service, model: ServedModel, content: bytes, top: str, arrived: float, executor: Executor
) -> dict[str, Any]:
    """The best answers to an image.

    Args:
        service: that has the model.
        model: asked.
        content: the file.
        top: how many answers, as the address has it.
        arrived: when the request did, on :func:`time.perf_counter`'s clock.
        executor: where images are decoded.

    Returns:
        The answer as JSON values, with milliseconds spent in each part.

    Raises:
        Refused: it is no image, too large, or the model takes none.
    """
    if model.image_input is None:
        bad_request(f"model '{model.name}' takes no images; send its tensor to .../infer")
    count = whole_number(top)
    if count is None or not 1 <= count <= _MOST_TOP:
        bad_request(f"top is '{top[:20]}'; allowed is 1 to {_MOST_TOP}")
    most = int(service.settings.max_megapixels * 1e6)
    started = time.perf_counter()
    inputs = await asyncio.get_running_loop().run_in_executor(
        executor, _prepared, model.bundle, model.image_input, content, most
    )
    prepared_s = time.perf_counter() - started
    computed = await service.infer(model, inputs, arrived)
    (answers,) = model.bundle.answers(np.asarray(computed.outputs), count)
    milliseconds = {
        "prepare": prepared_s,
        "queue": computed.queue_s,
        "infer": computed.infer_s,
        "total": time.perf_counter() - arrived,
    }
    return {
        "model_name": model.name,
        "variant": model.bundle.manifest.variant,
        "answers": [{"index": a.index, "label": a.label, "score": a.score} for a in answers],
        "batch_rows": computed.rows,
        "ms": {part: round(1e3 * seconds, 3) for part, seconds in milliseconds.items()},
    }


def _prepared(bundle: Bundle, how: ImageInput, content: bytes, most: int) -> NDArray[np.float32]:
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except Exception as error:  # Pillow's parsers raise what they like on broken files
        raise Refused(400, "the body is no JPEG or PNG image", "invalid") from error
    for size, what in ((image.size, "has"), (how.resized(*image.size), "would be resized to")):
        if size[0] * size[1] > most:
            raise Refused(
                413, f"the image {what} {size[0]} × {size[1]} pixels; allowed are {most} in all", "too_large"
            )
    try:
        image.load()
        return bundle.prepare([image])
    except BadInput as error:
        raise Refused(400, str(error), "invalid") from error
    except Exception as error:
        raise Refused(400, "the image is broken or truncated", "invalid") from error
