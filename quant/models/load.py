"""Loading a trained model together with its preprocessing."""

from dataclasses import dataclass

from torch import nn

from quant.data.config import expand
from quant.data.preparation import Preparation
from quant.data.preprocessing import Preprocessing
from quant.data.tensor_input import TensorInput
from quant.errors import BadInput
from quant.files import file_sha256
from quant.models.build import build_model
from quant.models.checkpoint import apply_weights, read_weights
from quant.models.config import ModelConfig

__all__ = ["LoadedModel", "load_model"]


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for evaluation.

    Attributes:
        model: float32, on the CPU, in evaluation mode; takes [N, C, H, W], or [N, ...] if not images.
        preprocessing: What its input has to go through.
        num_classes: Width of its output, where the model says so.
        name: As in the settings.
        weights_sha256: Of the weights file; None where the weights came from elsewhere.
    """

    model: nn.Module
    preprocessing: Preparation
    num_classes: int | None
    name: str
    weights_sha256: str | None


def load_model(config: ModelConfig, seed: int = 0) -> LoadedModel:
    """Build the model, read its weights and find out its preprocessing.

    Args:
        config: The model.
        seed: Of the initial weights, which remain where the settings name no trained ones.

    Raises:
        BadInput: If the model cannot be built, or the weights cannot be read or do not fit it.
    """
    model = build_model(config.name, config.kwargs, config.pretrained, seed)
    sha256 = None
    if config.weights is not None:
        path = expand(config.weights)
        apply_weights(model, read_weights(path), str(path))
        sha256 = file_sha256(path)
    num_classes = getattr(model, "num_classes", None)
    return LoadedModel(
        model=model.float().eval(),
        preprocessing=_preprocessing(config, model),
        num_classes=num_classes if isinstance(num_classes, int) and num_classes > 0 else None,
        name=config.name,
        weights_sha256=sha256,
    )


def _preprocessing(config: ModelConfig, model: nn.Module) -> Preparation:
    override, shape = config.preprocessing, getattr(model, "input_shape", None)
    if isinstance(shape, tuple | list):
        if override is not None:
            raise BadInput(
                f"{config.name!r} takes no images (it has an input_shape); leave preprocessing out"
            )
        return TensorInput(tuple(shape))
    if getattr(model, "pretrained_cfg", None):
        own = Preprocessing.from_timm(model)
        return own if override is None else Preprocessing.from_mapping(override, base=own)
    if override is None:
        raise BadInput(
            f"{config.name!r} does not say how its input is preprocessed; give preprocessing with "
            "input_size, mean and std, or set pretrained_cfg on the model; one that takes no images has an "
            "input_shape"
        )
    return Preprocessing.from_mapping(override)
