"""What an engine is made of: asked of the engine on a GPU, or read from a file that was written there."""

import json
from pathlib import Path
from typing import Any

from deploy.tensorrt.gpu import Machine
from deploy.tensorrt.library import LIBRARIES
from deploy.tensorrt.manifest import read_manifest
from deploy.tensorrt.run import RunSettings, TensorRtRunner
from quant.errors import BadInput

__all__ = ["layer_information"]


def layer_information(file: Path, machine: Machine | None = None) -> tuple[dict[str, Any], str]:
    """The layers of an engine, as ``IEngineInspector`` tells them.

    Args:
        file: ``engine.plan``, which needs a GPU, or JSON as ``trtexec --exportLayerInfo`` writes it.
        machine: the GPU; pycuda's where left out.

    Returns:
        The information, and the library with its version as far as it is known.

    Raises:
        BadInput: the file cannot be read, or does not fit what is here.
        Unsupported: there is no GPU, or the library cannot load the engine.
    """
    if file.suffix == ".plan":
        manifest = read_manifest(file)
        with TensorRtRunner(file, RunSettings(cuda_graphs=False), machine) as runner:
            return runner.layer_information(), f"{LIBRARIES[manifest.library].name} {manifest.version}"
    try:
        told = json.loads(file.read_bytes())
    except OSError as error:
        raise BadInput(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file}: is neither an engine.plan nor JSON with an engine's layers") from error
    if not isinstance(told, dict):
        raise BadInput(f"{file}: is not the layer information of a TensorRT engine: it has no 'Layers'")
    return told, "TensorRT"
