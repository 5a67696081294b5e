"""What the shipped recipes promise: one row for each recipe and model, with its limits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.bars.runs import resnet_config, vit_config
from deploy.pipeline.config import RunConfig

__all__ = ["DRAW_IMAGES", "ROWS", "Figure", "Limit", "Row", "config_of"]

Figure = Literal["drop", "top1", "agreement", "sqnr", "seconds"]
DRAW_IMAGES = {"vit": 224, "resnet20": 448, "resnet56": 448}
"""Calibration images of one draw, of the 256 and 512 there are."""


@dataclass(frozen=True)
class Limit:
    """One bar: the mean over the draws must reach it.

    Attributes:
        figure: ``drop`` in points, ``top1`` and ``agreement`` in percent, ``sqnr`` in dB, ``seconds`` of the
            stage `quantize`.
        kind: ``at least`` or ``at most``.
        value: the limit.
    """

    figure: Figure
    kind: Literal["at least", "at most"]
    value: float


@dataclass(frozen=True)
class Row:
    """One recipe on one model.

    Attributes:
        name: of the row, and of its folder.
        title: for the table.
        recipe: a shipped recipe.
        model: ``vit``, ``resnet20`` or ``resnet56``.
        limits: the bars.
        draws: how many calibrations, each on other images; 1 uses all images.
        full_weights: measure the fake-quant model with the recipe's own 8-bit weights, without the guard of
            CPUs that lack VNNI, instead of the exported file.
    """

    name: str
    title: str
    recipe: str
    model: str
    limits: tuple[Limit, ...]
    draws: int = 3
    full_weights: bool = False


def _drop(value: float) -> Limit:
    return Limit("drop", "at most", value)


def _agreement(value: float) -> Limit:
    return Limit("agreement", "at least", value)


def _sqnr(value: float) -> Limit:
    return Limit("sqnr", "at least", value)


def _minutes(value: float) -> Limit:
    return Limit("seconds", "at most", 60 * value)


ROWS: tuple[Row, ...] = (
    Row("int8", "ViT-Tiny W8A8", "int8", "vit", (_drop(0.6), _agreement(98), _sqnr(21), _minutes(1)), 1),
    Row("int8_full", "… full 8-bit weights", "int8", "vit", (_sqnr(23),), 1, full_weights=True),
    Row("fq_vit", "FQ-ViT 8/8/8, all quantized", "fq_vit", "vit", (_drop(1.5),), 1),
    Row("fq_vit_attn4", "FQ-ViT 8/8/4, all quantized", "fq_vit_attn4", "vit", (_drop(2.5),), 1),
    Row("w6a6", "ViT-Tiny W6A6", "w6a6", "vit", (_drop(2.0), _agreement(93))),
    Row("mixed6", "… mixed 4/6/8 at mean 6", "mixed6", "vit", ()),
    Row("w4a8", "ViT-Tiny W4A8 per channel", "w4a8", "vit", (_drop(3.0), _agreement(92))),
    Row("w4a8_block32", "… block 32", "w4a8_block32", "vit", (_drop(1.5), _agreement(92))),
    Row("w4a16", "ViT-Tiny W4A16, group 32", "w4a16", "vit", (_drop(0.9),)),
    Row("w4a16_group64", "… group 64", "w4a16_group64", "vit", (_drop(2.0),)),
    Row("w4a4", "ViT-Tiny W4A4", "w4a4", "vit", (Limit("top1", "at least", 66.0), _minutes(45))),
    *(
        Row(f"{recipe}_{model}", f"ResNet-{model[6:]} {title}", recipe, model, (_drop(limit),), draws)
        for recipe, title, limit, draws in (
            ("int8", "W8A8", 0.2, 1),
            ("w6a6", "W6A6", 0.5, 3),
            ("w4a4", "W4A4", 3.0, 3),
        )
        for model in ("resnet20", "resnet56")
    ),
)

_CONFIGS: dict[str, Callable[[], RunConfig]] = {
    "vit": vit_config,
    "resnet20": lambda: resnet_config(20),
    "resnet56": lambda: resnet_config(56),
}


def config_of(row: Row, draw: int) -> RunConfig:
    """The run of one draw."""
    config = _CONFIGS[row.model]().model_copy(update={"recipe": (row.recipe,), "targets": ("ort-x86",)})
    if row.draws == 1:
        return config
    chosen = {"shuffle_seed": draw, "limit": DRAW_IMAGES[row.model]}
    return config.model_copy(update={"calibration": config.calibration.model_copy(update=chosen)})
