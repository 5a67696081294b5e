"""``python -m benchmarks.bars.architectures``: build every architecture in every format, without a GPU.

Models of their full size with random weights go through calibration, export and lowering to the builder of
TensorRT-RTX. Each cell is an engine, or the reason why Octavo refuses it before the builder sees it; anything
else is a failure. What tunes weights is left out of the recipes, since it changes numbers and no graph.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import timm
import torch
from rich.console import Console
from torch import Tensor, fx

from benchmarks.files import write_text
from deploy.tensorrt.build import EngineSettings, build_plan, check_file
from deploy.tensorrt.library import Library, find_library
from export.lower import lower
from export.lower_float import lower_float
from export.onnx_export import export_float, export_qdq
from export.settings import ExportSettings
from export.targets import get_target
from quant.calibrate import calibrate
from quant.data.preprocessing import Preprocessing
from quant.errors import BadInput, OctavoError, Unsupported
from quant.graph import capture
from quant.methods import GraphMethod, make_method
from quant.recipe import Recipe, load_recipe

__all__ = ["ARCHITECTURES", "FORMATS", "Cell", "build_cells", "main", "markdown"]

ARCHITECTURES = (
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "swin_tiny_patch4_window7_224",
    "convnext_tiny",
    "resnet18",
    "mobilenetv3_small_050",
    "test_efficientnet",
)
FORMATS: dict[str, str | None] = {
    "fp16": None,
    "int8": "int8",
    "int8_attention": "int8_attention",
    "fp8": "fp8",
    "int4 weights": "w4a16_symmetric",
}
"""Column to its recipe."""

_IMAGES = 4
_MIB = 2**20


@dataclass(frozen=True)
class Cell:
    """What became of an architecture in a format.

    Attributes:
        architecture: timm's name.
        format: key of :data:`FORMATS`.
        outcome: ``builds``, ``refused`` by Octavo, or ``FAILED``.
        text: size and seconds of the engine, or the reason.
    """

    architecture: str
    format: str
    outcome: str
    text: str


def main() -> int:
    """Build, print, and write the table; returns 1 when a cell failed, 2 without TensorRT-RTX."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars.architectures", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=ARCHITECTURES, default=ARCHITECTURES)
    parser.add_argument("--out", type=Path, default=Path("runs/bars/architectures.md"))
    arguments = parser.parse_args()
    console = Console(stderr=True)
    try:
        library = find_library("tensorrt_rtx")
    except Unsupported as error:
        print(f"architectures: {error}", file=sys.stderr)
        return 2
    cells: list[Cell] = []
    for name in arguments.only:
        torch.manual_seed(0)
        model = timm.create_model(name).eval()
        size = Preprocessing.from_timm(model).input_size
        images = torch.randn(_IMAGES, *size, generator=torch.Generator().manual_seed(1))
        for cell in build_cells(name, capture(model, images[:2]), images, library):
            console.print(f"  {cell.architecture} {cell.format}: {cell.outcome}: {cell.text}", style="dim")
            cells.append(cell)
    text = markdown(cells, f"{library.name} {library.version}")
    write_text(arguments.out, text)
    print(text)
    return 1 if any(cell.outcome == "FAILED" for cell in cells) else 0


def build_cells(name: str, graph: fx.GraphModule, images: Tensor, library: Library) -> list[Cell]:
    """One architecture in every format.

    Args:
        name: of the architecture.
        graph: the captured float model.
        images: [N, C, H, W], to calibrate on.
        library: what builds.
    """
    cells = []
    with tempfile.TemporaryDirectory(prefix="octavo-") as folder:
        plain = Path(folder) / "plain.onnx"
        export_float(graph, images[:2], plain, ExportSettings(), {})
        for column, recipe in FORMATS.items():
            path = Path(folder) / f"{column}.onnx"

            if recipe is None:
                make: Callable[[], object] = partial(
                    lower_float, plain, get_target("tensorrt"), path, images.numpy()
                )
            else:
                make = partial(_lower, graph, load_recipe(recipe), images, path)
            cells.append(Cell(name, column, *_outcome(make, path, library)))
    return cells


def _lower(graph: fx.GraphModule, recipe: Recipe, images: Tensor, path: Path) -> None:
    kept = [m for m in recipe.methods if isinstance(make_method(m.name, m.options), GraphMethod)]
    plain = recipe.model_copy(update={"methods": tuple(kept)})
    calibrated = calibrate(graph, plain, lambda n: torch.split(images[:n], 2))
    qdq = path.with_suffix(".qdq.onnx")
    export_qdq(calibrated, images[:2], qdq, ExportSettings(), {})
    lower(qdq, calibrated, get_target("tensorrt"), path, {})


def _outcome(make: Callable[[], object], path: Path, library: Library) -> tuple[str, str]:
    try:
        make()
        check_file(path)
    except (BadInput, Unsupported) as error:
        return "refused", _one_line(error, path)
    except OctavoError as error:
        return "FAILED", _one_line(error, path)
    start = time.perf_counter()
    try:
        plan, _ = build_plan(path, EngineSettings(), library)
    except OctavoError as error:
        return "FAILED", _one_line(error, path)
    return "builds", f"{len(plan) / _MIB:.1f} MiB in {time.perf_counter() - start:.1f} s"


def _one_line(error: OctavoError, path: Path) -> str:
    return " ".join(str(error).removeprefix(f"{path}: ").split())


def markdown(cells: Sequence[Cell], library: str) -> str:
    """The table, and below it why cells were refused or failed."""
    columns = list(FORMATS)
    by_place = {(cell.architecture, cell.format): cell for cell in cells}
    reasons = list(dict.fromkeys(cell.text for cell in cells if cell.outcome != "builds"))
    lines = [f"| {library} | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"]
    for name in dict.fromkeys(cell.architecture for cell in cells):
        row = [by_place[name, column] for column in columns]
        shown = [
            c.text if c.outcome == "builds" else f"{c.outcome} ({reasons.index(c.text) + 1})" for c in row
        ]
        lines.append(f"| `{name}` | {' | '.join(shown)} |")
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return "\n".join([*lines, *([""] if notes else []), *notes, ""])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    raise SystemExit(main())
