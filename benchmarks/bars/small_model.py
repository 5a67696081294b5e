"""A small quantized model for TensorRT, made in seconds without the data folder."""

from pathlib import Path

from rich.console import Console

from benchmarks.bars.runs import do_run
from deploy.pipeline.config import RunConfig
from deploy.tensorrt.runs import TARGET
from export.settings import ExportSettings
from quant.data.config import SourceConfig
from quant.models.config import ModelConfig

__all__ = ["small_model"]


def small_model(folder: Path, console: Console) -> Path:
    """One block of a vision transformer with random weights, calibrated on digits and lowered for TensorRT.

    Returns:
        The ONNX file, below ``folder``.
    """
    config = RunConfig(
        model=ModelConfig(
            name="vit_tiny_patch16_224",
            kwargs={
                "img_size": 32,
                "patch_size": 8,
                "in_chans": 1,
                "embed_dim": 24,
                "depth": 1,
                "num_heads": 3,
            }
            | {"num_classes": 10},
        ),
        calibration=SourceConfig(kind="digits", split="calibration", limit=16),
        validation=SourceConfig(kind="digits", split="validation", limit=4),
        targets=(TARGET,),
        export=ExportSettings(parity_images=4, parity="warn"),  # random weights: nothing to hold up
    )
    do_run(config, folder, console, until="lower")
    return folder / f"int8-{TARGET}" / "model.onnx"
