import copy
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.profiles import read_profile
from benchmarks.report.runs import Run
from benchmarks.results import Summary

RECIPES = (
    "int8",
    "int8_gelu_scale",
    "w6a6",
    "mixed6",
    "w4a16",
    "w4a8",
    "w4a8_block32",
    "w4a4",
    "fp8",
    "fq_vit",
)


@pytest.fixture
def run(summary: Summary) -> Run:
    return Run("main", summary)


@pytest.fixture
def twelve(summary_dict: dict[str, Any]) -> Summary:
    """The reference and eleven variants, from a clear win to a clear loss."""
    base, int8, _ = summary_dict["variants"]
    variants = [base]
    for i, recipe in enumerate((*RECIPES, "int8_symmetric")):
        variant = copy.deepcopy(int8) | {"name": f"{recipe}-ort-x86"}
        ratio = 1.5 - 0.08 * i
        for entry in variant["latency"]:
            entry["speedup"] = {"value": ratio, "low": 0.98 * ratio, "high": 1.02 * ratio}
            entry["median_ms"] = 21.4 * entry["batch"] / ratio
        variant["accuracy"]["correct"] -= 3 * i
        variant["accuracy"]["top1"] -= 3 * i / 344
        variants.append(variant)
    return Summary.model_validate(summary_dict | {"variants": variants})


@pytest.fixture
def profiled(tmp_path: Path, summary: Summary) -> Run:
    """A run whose INT8 variant was profiled: four layers, two widths, one histogram."""
    folder = tmp_path / "int8-ort-x86" / "profile"
    folder.mkdir(parents=True)
    head = "name,kind,qsnr_db,isolated_qsnr_db,weight_bits,input_bits\n"
    layers = "stem,conv,40.5,41,8,8\nblocks.0.fc1,linear,30.25,38,8,8\n"
    layers += "blocks.0.qk,attention_qk,inf,inf,,\nhead,linear,28,,8,\n"
    (folder / "statistics.csv").write_text(f"{head}{layers}blocks.0,block,29,,,\n")
    (folder / "sensitivity.csv").write_text(
        "layer,bits,kl\nstem,4,0.5\nstem,8,0.001\nhead,4,0.25\nhead,8,0\n"
    )
    (folder / "histograms.csv").write_text(
        "layer,low,high,float,quantized\nhead,-1,0,0.5,0.25\nhead,0,1,0.5,0.75\n"
    )
    profile = read_profile(folder.parent)
    assert profile is not None
    return Run("main", summary, {"int8-ort-x86": profile})
