"""The runs behind the bars, resumable like any other, and the bars read from their summaries."""

from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.bars.bar import Bar
from benchmarks.results import Summary, Variant, load_summary
from benchmarks.stages import STAGES, do_stage
from deploy.pipeline.config import BenchConfig, RunConfig
from deploy.pipeline.line import Line
from export.parity.report import ABOVE_QUANTIZATION_DB, LIMITS
from quant.data.config import SourceConfig
from quant.models.config import ModelConfig

__all__ = ["do_run", "resnet_bars", "resnet_config", "vit_bars", "vit_config"]

DATA = "${OCTAVO_DATA}"


def vit_config() -> RunConfig:
    """ViT-Tiny: 256 calibration images, 344 validation images, both cures for outlier units."""
    images = f"{DATA}/imagenet"
    return RunConfig(
        model=ModelConfig(
            name="vit_tiny_patch16_224", weights=Path(f"{DATA}/vit_tiny_patch16_224/model.safetensors")
        ),
        calibration=SourceConfig(kind="csv", path=Path(f"{images}/calibration/labels.csv")),
        validation=SourceConfig(kind="csv", path=Path(f"{images}/validation/labels.csv")),
        recipe=("int8", "int8_gelu_scale"),
        targets=("ort-x86",),
        bench=BenchConfig(warmup=10, batch_sizes=(1,), threads=(1,)),
    )


def resnet_config(depth: int) -> RunConfig:
    """A CIFAR-10 ResNet: 512 calibration images, 5,000 validation images."""
    return RunConfig(
        model=ModelConfig(
            name=f"quant.models.cifar_resnet:resnet{depth}",
            weights=Path(f"{DATA}/cifar10/resnet{depth}.safetensors"),
        ),
        calibration=SourceConfig(kind="npz", path=Path(f"{DATA}/cifar10/calibration.npz")),
        validation=SourceConfig(kind="npz", path=Path(f"{DATA}/cifar10/validation.npz")),
        targets=("ort-x86",),
        bench=BenchConfig(warmup=10, batch_sizes=(1,), threads=(1,), accuracy_batch=100),
    )


def do_run(config: RunConfig, folder: Path, console: Console, until: str = "bench") -> Line:
    """Do the stages of a run up to ``until``; those already done are skipped."""
    line = Line(config, folder)
    for stage in STAGES:
        do_stage(line, stage, lambda text: console.print(f"  {folder.name}: {text}", style="dim"))
        if stage == until:
            break
    return line


def vit_bars(folder: Path) -> list[Bar]:
    """The bars of the ViT run in ``folder``."""
    summary = load_summary(folder / "summary.json")
    variant = _variant(summary, "int8-ort-x86")
    accuracy, (latency,) = variant.accuracy, variant.latency or ()
    assert accuracy is not None
    assert accuracy.agreement is not None
    assert accuracy.sqnr_db is not None
    assert latency.speedup is not None
    audit, parity = _figures(variant.audit), _figures(variant.parity)
    other = _variant(summary, "int8_gelu_scale-ort-x86")
    assert other.accuracy is not None
    assert other.accuracy.agreement is not None
    assert other.accuracy.sqnr_db is not None
    assert other.latency is not None
    assert other.latency[0].speedup is not None
    flips, layers = accuracy.flips, parity["layers"]
    assert flips is not None
    interval = latency.speedup
    bars = [
        Bar(
            "ViT-Tiny W8A8: top-1 drop",
            "at most",
            0.9,
            _drop(summary, variant),
            " points",
            remark=f"{accuracy.correct} of {accuracy.n} right; +{flips.better} / −{flips.worse} images",
        ),
        Bar("… agreement with FP32", "at least", 96.5, 100 * accuracy.agreement, " %"),
        Bar(
            "… logits SQNR",
            "at least",
            18.0,
            accuracy.sqnr_db,
            " dB",
            remark=(
                f"with the other cure (int8_gelu_scale): {other.accuracy.sqnr_db:.2f} dB, agreement "
                f"{100 * other.accuracy.agreement:.1f} %, drop {_drop(summary, other):.2f} points, "
                f"{other.latency[0].speedup.value:.2f}× FP32"
            ),
        ),
        Bar(
            "… linear+conv MACs in integer kernels",
            "at least",
            97.0,
            100 * audit["weight_share"],
            " %",
        ),
        Bar(
            "… FP32 / INT8 latency, batch 1, 1 thread",
            "at least",
            1.30,
            interval.value,
            "×",
            remark=f"95 % interval {interval.low:.2f} to {interval.high:.2f}; {latency.median_ms:.1f} ms",
        ),
        Bar("… file size of FP32's", "at most", 27.0, 100 / (variant.size_ratio or 1.0), " %"),
        Bar(
            "parity by layer: codes that differ",
            "at most",
            0.1,
            100 * max(layers["input_codes_differ_max"], layers["output_codes_differ_max"]),
            " %",
            digits=4,
            remark=(
                f"worst of {layers['compared']} layers, optimizations off and all; outputs within "
                f"{LIMITS.equal:g} code count as equal"
            ),
        ),
        Bar(
            "… by how much",
            "at most",
            1,
            max(layers["input_codes_distance_max"], layers["output_codes_distance_max"]),
            " code",
            digits=0,
        ),
    ]
    for mode in ("off", "all"):
        figures = parity[f"end to end, optimizations {mode}"]
        bars.append(
            Bar(
                f"parity end to end (optimizations {mode}), above INT8 against FP32",
                "at least",
                ABOVE_QUANTIZATION_DB,
                figures["parity_db"] - figures["quantization_db"],
                " dB",
                digits=1,
                remark=(
                    f"{figures['parity_db']:.1f} over {figures['quantization_db']:.1f} dB; the fake-quant "
                    f"model agrees with itself to {figures['flip_floor_db']:.1f} dB when 0.1 % of each "
                    "layer's codes flip"
                ),
            )
        )
    return bars


def resnet_bars(folder: Path, depth: int) -> list[Bar]:
    """The bars of a ResNet run in ``folder``."""
    summary = load_summary(folder / "summary.json")
    variant = _variant(summary, "int8-ort-x86")
    assert variant.accuracy is not None
    assert variant.latency is not None
    assert variant.latency[0].speedup is not None
    share = _figures(variant.audit)["weight_share"]
    remark = (
        f"{variant.accuracy.correct} of {variant.accuracy.n} right; "
        f"{100 * share:.1f} % of MACs in integers; "
        f"{variant.latency[0].speedup.value:.2f}× FP32 at batch 1"
    )
    drop = _drop(summary, variant)
    return [Bar(f"ResNet-{depth} W8A8: top-1 drop", "at most", 0.3, drop, " points", remark=remark)]


def _variant(summary: Summary, name: str) -> Variant:
    return next(variant for variant in summary.variants if variant.name == name)


def _figures(stored: object) -> dict[str, Any]:
    assert isinstance(stored, dict)
    return stored


def _drop(summary: Summary, variant: Variant) -> float:
    """Top-1 points lost against the reference."""
    reference = _variant(summary, summary.reference)
    assert reference.accuracy is not None
    assert variant.accuracy is not None
    return 100 * (reference.accuracy.top1 - variant.accuracy.top1)
