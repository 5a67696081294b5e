"""Settings that name a model and its weights."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["ModelConfig"]


class ModelConfig(BaseModel):
    """One trained model.

    Attributes:
        name: A timm model, as in `timm.list_models()`, or `package.module:factory` for a function that builds
            the model.
        weights: Checkpoint: `.safetensors`, or `.pt`, `.pth`, `.bin` that holds tensors only. The path may
            contain `${VARIABLE}`. Without it and without `pretrained` the weights are random, from a seed.
        pretrained: Download the weights that timm publishes for `name`.
        kwargs: Arguments of the timm model or of the factory.
        preprocessing: Fields of `Preprocessing` that replace what the model says about itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights: Path | None = None
    pretrained: bool = False
    kwargs: dict[str, Any] = {}
    preprocessing: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.pretrained and self.weights is not None:
            raise ValueError("give weights (a file) or pretrained: true (a download), not both")
        if self.pretrained and ":" in self.name:
            raise ValueError(
                "pretrained: true is for timm models; give the weights of a factory's model as a file"
            )
        return self
