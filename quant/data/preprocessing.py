"""How an image becomes the tensor that a model was trained on."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import torch
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import nn

from quant.errors import BadInput

__all__ = ["Preprocessing"]

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
_CROP_MODES = ("center", "squash", "border")


@dataclass(frozen=True)
class Preprocessing:
    """timm's evaluation preprocessing: resize, crop, scale to [0, 1], then (x − mean) / std per channel.

    Attributes:
        input_size: Shape [C, H, W] of the tensor; C is 3 (RGB) or 1 (grey).
        mean: One value per channel, on the scale of [0, 1].
        std: One value per channel, on the scale of [0, 1].
        interpolation: Resize filter of Pillow.
        crop_pct: The image is resized to size / crop_pct before the crop; 1.0 crops nothing off a square.
        crop_mode: center keeps the aspect ratio and crops the middle, squash resizes both sides, border pads.

    Raises:
        BadInput: If a value is outside of what is described here.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        channels = self.input_size[0] if len(self.input_size) == 3 else None
        for field, allowed, holds in (
            ("input_size", "[C, H, W] with C 1 or 3", channels in (1, 3) and min(self.input_size) >= 1),
            ("mean", f"{channels} finite values", _finite(self.mean, channels)),
            ("std", f"{channels} positive values", _finite(self.std, channels) and min(self.std) > 0),
            ("interpolation", ", ".join(_INTERPOLATIONS), self.interpolation in _INTERPOLATIONS),
            ("crop_pct", "above 0 and at most 1", 0 < self.crop_pct <= 1),
            ("crop_mode", ", ".join(_CROP_MODES), self.crop_mode in _CROP_MODES),
        ):
            if not holds:
                raise BadInput(f"preprocessing: {field} is {getattr(self, field)!r}; allowed: {allowed}")

    @classmethod
    def from_timm(cls, model: nn.Module) -> Self:
        """Return the evaluation preprocessing of a model that carries timm's `pretrained_cfg`.

        The size and the channels are those the model was built with, which `pretrained_cfg` does not follow.
        Where the channels differ from the recorded ones, mean and std are the averages of those.
        """
        config = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
        channels, height, width = config["input_size"]
        height, width = _built_size(model) or (height, width)
        channels = _built_channels(model) or channels
        mean, std = (tuple(float(v) for v in config[key]) for key in ("mean", "std"))
        if len(mean) != channels:
            mean, std = (math.fsum(mean) / len(mean),) * channels, (math.fsum(std) / len(std),) * channels
        return cls(
            input_size=(channels, height, width),
            mean=mean,
            std=std,
            interpolation=config["interpolation"],
            crop_pct=float(config["crop_pct"]),
            crop_mode=config["crop_mode"],
        )

    def transform(self) -> Callable[[Image.Image], torch.Tensor]:
        """Return the function from a Pillow image to a float32 tensor [C, H, W]."""
        chain = create_transform(
            input_size=self.input_size,
            is_training=False,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
        )
        mode = "RGB" if self.input_size[0] == 3 else "L"

        def apply(image: Image.Image) -> torch.Tensor:
            if not isinstance(image, Image.Image):
                raise BadInput(
                    f"the model takes images, the source gives {type(image).__name__}; a model that takes "
                    "arrays says so by an attribute input_shape"
                )
            tensor: torch.Tensor = chain(image.convert(mode))
            return tensor

        return apply

    def to_metadata(self) -> str:
        """Return the settings as a JSON object, as it is stored beside a model."""
        return json.dumps(asdict(self))

    @classmethod
    def from_metadata(cls, text: str) -> Self:
        """Read what `to_metadata` wrote.

        Raises:
            BadInput: If `text` is not such an object.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise BadInput(f"preprocessing: not JSON ({error})") from error
        return cls.from_mapping(values)

    @classmethod
    def from_mapping(cls, values: Any, base: Self | None = None) -> Self:
        """Build from settings as YAML or JSON gives them; what they leave out comes from `base`.

        Raises:
            BadInput: If a key is unknown, a value has a wrong type, or one is missing without a base.
        """
        if not isinstance(values, dict):
            raise BadInput(f"preprocessing: a mapping is needed, not {type(values).__name__}")
        known = [field.name for field in fields(cls)]
        unknown = sorted(str(key) for key in values if key not in known)
        if unknown:
            raise BadInput(f"preprocessing: unknown {', '.join(unknown)}; allowed: {', '.join(known)}")
        missing = [name for name in ("input_size", "mean", "std") if name not in values]
        if base is None and missing:
            raise BadInput(f"preprocessing: {', '.join(missing)} missing; give input_size, mean and std")
        converted = {key: _convert(key, value) for key, value in values.items()}
        return cls(**converted) if base is None else replace(base, **converted)


def _convert(key: str, value: Any) -> Any:
    try:
        if key == "input_size":
            if any(int(size) != size for size in value):
                raise ValueError
            return tuple(int(size) for size in value)
        if key in ("mean", "std"):
            return tuple(float(v) for v in value)
        return float(value) if key == "crop_pct" else str(value)
    except (TypeError, ValueError):
        raise BadInput(f"preprocessing: {key} is {value!r}, which has the wrong type") from None


def _finite(values: tuple[float, ...], channels: int | None) -> bool:
    return len(values) == channels and all(math.isfinite(value) for value in values)


def _built_size(model: nn.Module) -> tuple[int, int] | None:
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    return (int(size[0]), int(size[1])) if size is not None else None


def _built_channels(model: nn.Module) -> int | None:
    """Return the input channels of the layer that `pretrained_cfg` calls the first convolution."""
    first = (getattr(model, "pretrained_cfg", None) or {}).get("first_conv")
    first = first[0] if isinstance(first, tuple | list) else first
    if not first:
        return None
    weight = getattr(model.get_submodule(first), "weight", None)
    return int(weight.shape[1]) if weight is not None and weight.ndim == 4 else None
