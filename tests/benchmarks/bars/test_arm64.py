"""What the bars of ARM64 say of what was found."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.arm64.audited import Audited
from benchmarks.arm64.compare import Apart
from benchmarks.arm64.comparison import Found, Pair
from benchmarks.arm64.emulator import PACKAGES
from benchmarks.arm64.held import Roundings
from benchmarks.bars import arm64
from benchmarks.bars.arm64 import arm_bars, end_bars, kit_bars

HELD = Roundings(places=18, worst=7e-7, where="gelu_1", logits=3e-7, codes=1000, flipped=5)
CLOSE, FAR = Apart(2e-7, 32, 32, 0), Apart(3e-3, 31, 32, 5)


def found(**changes: Any) -> Found:
    audit: Any = SimpleNamespace(weight_share=1.0)
    one = Found(
        cpu="neoverse-n1",
        same_file={"ort-arm64": Pair("ort-arm64 file", "x86", CLOSE)},
        pairs=(),
        roundings={"ort-arm64": HELD},
        integers={"ort-arm64": (18, 18)},
        fake_quant_db=60.0,
        audited=Audited(audit, audit, (), ()),
        logits=np.zeros((32, 10)),
    )
    return replace(one, **changes)


def missed(one: Found, required_db: float = 40.0) -> list[str]:
    return [bar.what for bar in arm_bars(one, required_db) if not bar.reached]


def test_what_is_asked_is_reached() -> None:
    assert missed(found()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"roundings": {"ort-arm64": replace(HELD, logits=1.1e-5)}}, "logits, relative"),
        ({"roundings": {"ort-arm64": replace(HELD, worst=1.1e-5)}}, "any value that is rounded"),
        ({"integers": {"ort-arm64": (17, 18)}}, "integer kernels"),
        ({"same_file": {"ort-arm64": Pair("ort-arm64 file", "x86", FAR)}}, "same top-1"),
        ({"fake_quant_db": 39.0}, "fake-quant"),
    ],
)
def test_each_bar_is_missed_for_its_own_reason(changes: dict[str, Any], words: str) -> None:
    (what,) = missed(found(**changes))
    assert words in what


def test_every_surprise_in_the_executed_graph_counts_and_is_told() -> None:
    audit: Any = SimpleNamespace(weight_share=0.5)
    lines = ("head: Gemm in float: 0 predicted, 1 executed",)
    bar = arm_bars(
        found(audited=Audited(audit, audit, lines, ("Add: 2 in the graph, 1 in the profile",))), 40
    )[-1]
    assert (bar.reached, bar.measured) == (False, 2)
    assert "50.00 % of linear + conv MACs in integers there; head: Gemm" in bar.remark


def test_end_to_end_the_limit_is_the_same_and_x86_stands_beside() -> None:
    own = {"ort-arm64": Pair("x86", "the definition", replace(FAR, relative=1.6e-3))}
    (close,) = end_bars(found(), own)
    (far,) = end_bars(found(same_file={"ort-arm64": Pair("ort-arm64 file", "x86", FAR)}), own)
    assert (close.limit, close.reached, far.limit, far.reached) == (1e-5, True, 1e-5, False)
    assert "within 1.6e-03 of ONNX's definition" in far.remark


def test_a_time_of_the_emulator_in_a_report_is_a_missed_bar() -> None:
    def measured(latency: object) -> Any:
        variant = SimpleNamespace(latency=latency, memory=None, accuracy=object())
        environment = SimpleNamespace(cpu="part 0xd0c, emulated")
        return SimpleNamespace(summary=SimpleNamespace(variants=(variant,), environment=environment))

    assert all(bar.reached for bar in kit_bars(measured(None)))
    assert [bar.reached for bar in kit_bars(measured(()))] == [True, False]


def test_without_an_emulator_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", ["arm64"])
    monkeypatch.setattr("benchmarks.arm64.emulator._program", lambda _: "")
    assert arm64.in_one_line("benchmarks.bars.arm64", arm64.main) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"apt-get install {' '.join(sorted(PACKAGES.values()))}")
