"""``python -m benchmarks.bars.lowering``: what the `tensorrt` lowerings of ViT-Tiny compute.

ONNX Runtime executes them operator by operator, float16 included, as ONNX defines the operators; needs the
data folder. Beside the parity stands what the fake-quant model agrees with itself to when the values that its
quantizers read change by as little as another order of summation changes them in float32: roundings that flip
spread from layer to layer, so no executor that is not bit-exact comes nearer.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks.bars.bar import Bar, print_bars, to_dicts
from benchmarks.bars.runs import do_run, vit_config
from benchmarks.environment import describe_environment
from benchmarks.files import write_text
from benchmarks.metrics import sqnr_db
from benchmarks.results import Summary, Variant, load_summary
from deploy.markdown import markdown_table
from deploy.pipeline.config import BenchConfig
from deploy.pipeline.line import Line
from deploy.tensorrt.runs import TARGET
from export.targets import get_target
from quant.calibrated import CalibratedGraph
from quant.encoding import freeze
from quant.errors import BadInput, Unsupported

__all__ = ["RECIPES", "bars_of", "main", "self_agreement_db", "table_of"]

RECIPES = ("int8_symmetric", "int8", "int8_fast", "int8_attention", "fp8")
"""The first is what the bars are about."""

FLOAT32_NOISE = 1e-7
_PARITY = "end to end, optimizations off"
_IMAGES, _BATCH = 32, 8


def main() -> int:
    """Measure, print, and store ``lowering.json``; returns 1 when a bar is missed, 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.lowering", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/bars/lowering"), help="kept: a rerun resumes")
    out = parser.parse_args().out
    config = vit_config().model_copy(
        update={
            "recipe": RECIPES,
            "targets": (TARGET,),
            "bench": BenchConfig(processes=2, warmup=1, calls=2, turn=1),  # its speed is not the question
        }
    )
    try:
        line = do_run(config, out, Console(stderr=True))
    except (BadInput, Unsupported) as error:
        print(f"lowering: {error}", file=sys.stderr)
        return 2
    summary = load_summary(out / "summary.json")
    limit = self_agreement_db(line, RECIPES[0])
    bars = bars_of(_variant(summary, RECIPES[0]), summary.base, limit)
    about = {"environment": asdict(describe_environment()), "bars": to_dicts(bars)}
    write_text(out / "lowering.json", json.dumps(about, indent=1))
    print(table_of(summary))
    print_bars(bars, Console())
    return 0 if all(bar.reached for bar in bars) else 1


def bars_of(variant: Variant, base: Variant, self_db: float) -> list[Bar]:
    """The bars of a lowering.

    Args:
        variant: it, with accuracy and parity.
        base: the float model.
        self_db: what :func:`self_agreement_db` returned.
    """
    assert variant.accuracy is not None
    assert base.accuracy is not None
    assert variant.accuracy.agreement is not None
    parity = _parity(variant)
    layers = parity["layers"]
    near = 100 * (1 - layers["codes_beyond_one_max"])
    above = parity[_PARITY]["parity_db"] - parity[_PARITY]["quantization_db"]
    own = f"with itself, float32's rounding at its quantizers ({FLOAT32_NOISE:g}): "
    own += f"{self_db - parity[_PARITY]['quantization_db']:.1f} dB above"
    drop = 100 * (base.accuracy.top1 - variant.accuracy.top1)
    return [
        Bar(f"{variant.name}: top-1 drop", "at most", 0.6, drop, " points"),
        Bar(f"{variant.name}: agreement", "at least", 97.0, 100 * variant.accuracy.agreement, " %"),
        Bar("per layer: codes equal or one apart", "at least", 99.5, near, " %"),
        Bar("end to end, above the quantization error", "at least", 6.0, above, " dB", 1, own),
    ]


def table_of(summary: Summary) -> str:
    """Every lowering in Markdown."""
    rows = []
    for variant in summary.variants:
        own, base = variant.accuracy, summary.base.accuracy
        if variant.target != TARGET or own is None or base is None:
            continue
        found = _parity(variant).get(_PARITY, {})
        rows.append(
            (
                f"`{variant.name}`",
                f"{100 * (base.top1 - own.top1):.2f} points",
                "–" if own.agreement is None else f"{100 * own.agreement:.1f} %",
                "–" if own.sqnr_db is None else f"{own.sqnr_db:.1f} dB",
                f"{found['parity_db']:.1f} dB" if found else "–",
            )
        )
    head = ("Variant", "Top-1 drop", "Agreement", "Logit SQNR", "Parity with the fake-quant model")
    return markdown_table(head, rows)


@torch.no_grad()
def self_agreement_db(line: Line, recipe: str, noise: float = FLOAT32_NOISE, seed: int = 0) -> float:
    """What a fake-quant model agrees with itself to when its quantizers read slightly other values, dB.

    Args:
        line: a run that calibrated it.
        recipe: its name.
        noise: relative change of each value, uniform in ± ``noise``.
        seed: of the changes.
    """
    calibrated = line.calibrated(line.recipe_named(recipe))
    freeze(calibrated, get_target(TARGET).encoding())
    images = line.parity_images[:_IMAGES]

    def logits() -> Tensor:
        return torch.cat([calibrated.graph(part) for part in torch.split(images, _BATCH)])

    undisturbed = logits().numpy()
    with _noise(calibrated, noise, torch.Generator().manual_seed(seed)):
        return sqnr_db(undisturbed, logits().numpy())


@contextmanager
def _noise(calibrated: CalibratedGraph, noise: float, generator: torch.Generator) -> Iterator[None]:
    def change(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (x,) = inputs
        return (x * (1 + noise * (2 * torch.rand(x.shape, generator=generator) - 1)),)

    sites = calibrated.activation_sites()
    hooks = [site.quantizer.register_forward_pre_hook(change) for site in sites]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _parity(variant: Variant) -> dict[str, dict[str, float]]:
    found = variant.parity or {}
    return {name: value for name, value in found.items() if isinstance(value, dict)}  # type: ignore[misc]


def _variant(summary: Summary, recipe: str) -> Variant:
    return next(v for v in summary.variants if v.name == f"{recipe}-{TARGET}")


if __name__ == "__main__":
    raise SystemExit(main())
