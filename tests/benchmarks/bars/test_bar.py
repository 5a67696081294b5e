import json
from collections.abc import Callable

import pytest
from rich.console import Console

from benchmarks.bars.bar import Bar, in_one_line, print_bars, to_dicts
from quant.errors import BadInput


@pytest.mark.parametrize(
    ("kind", "limit", "measured", "reached"),
    [
        ("at least", 18.0, 18.0, True),
        ("at least", 18.0, 17.999, False),
        ("at most", 0.9, 0.9, True),
        ("at most", 0.9, 0.901, False),
        ("at most", 0.9, float("nan"), False),
        ("at least", 18.0, float("nan"), False),
    ],
)
def test_a_bar_is_reached_at_its_limit_and_never_by_nan(
    kind: str, limit: float, measured: float, reached: bool
) -> None:
    assert Bar("figure", kind, limit, measured).reached is reached  # type: ignore[arg-type]


def test_a_missed_bar_is_said_in_words_and_in_json() -> None:
    bars = [Bar("good", "at most", 1, 0, " %"), Bar("bad", "at least", 8, 2.9, " dB", remark="why")]
    console = Console(width=100, record=True)

    print_bars(bars, console)

    lines = console.export_text().splitlines()
    assert next(line for line in lines if "bad" in line).rstrip(" │").endswith("missed")
    assert next(line for line in lines if "good" in line).rstrip(" │").endswith("reached")
    assert any("why" in line for line in lines)
    assert [bar["reached"] for bar in json.loads(json.dumps(to_dicts(bars)))] == [True, False]


def test_what_is_refused_is_one_line_and_bugs_keep_their_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuses(error: Exception) -> Callable[[], int]:
        def main() -> int:
            raise error

        return main

    assert in_one_line("awq", lambda: 1) == 1
    assert in_one_line("awq", refuses(BadInput("weights.pt: does\nnot exist"))) == 2
    assert capsys.readouterr().err == "awq: weights.pt: does not exist\n"
    with pytest.raises(ZeroDivisionError):
        in_one_line("awq", refuses(ZeroDivisionError()))
