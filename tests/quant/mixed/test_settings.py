import pytest

from quant.errors import BadInput
from quant.mixed.settings import MixedPrecision
from quant.recipe import parse


def settings(**changes: object) -> MixedPrecision:
    return parse(MixedPrecision, {"budget": {"kind": "mean_bits", "value": 6}} | changes, "mixed")


def test_one_budget_or_several() -> None:
    size = {"kind": "size", "value": 0.5, "relative_to": 8}
    assert [b.kind for b in settings().budget] == ["mean_bits"]
    assert [b.kind for b in settings(budget=[{"kind": "mean_bits", "value": 6}, size]).budget] == [
        "mean_bits",
        "size",
    ]


def test_widths_are_sorted() -> None:
    assert settings(bits=[8, 16, 4]).bits == (4, 8, 16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrc": "kl"}, r"unknown key 'metrc' \(did you mean 'metric'\?\)"),
        ({"bits": [6]}, "two or more different widths"),
        ({"bits": [4, 4]}, "two or more different widths"),
        ({"bits": [4, 9]}, "9 bits cannot be chosen; allowed: 2, 3, 4, 5, 6, 7, 8, 16"),
        ({"keep": {"head": 12}}, "12 bits cannot be chosen"),
        ({"background": 1}, "1 bits cannot be chosen"),
        ({"budget": []}, "budget"),
        ({"operands": "separate", "budget": {"kind": "energy", "value": 1}}, "use operands: together"),
        ({"budget": {"kind": "size", "value": 0}}, "greater than 0"),
        ({"budget": {"kind": "size", "value": 1, "weighted_by": "macs"}}, "option of kind: mean_bits"),
        ({"budget": {"kind": "size", "value": 1, "jointly": True}}, "option of kind: mean_bits"),
        ({"budget": {"kind": "latency", "value": 1}}, "table and kind: latency go together"),
        ({"budget": {"kind": "size", "value": 1, "table": "t.csv"}}, "table and kind: latency go together"),
        ({"budget": {"kind": "size", "valu": 1}}, r"unknown key 'budget.0.valu' \(did you mean 'value'\?\)"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        settings(**changes)
