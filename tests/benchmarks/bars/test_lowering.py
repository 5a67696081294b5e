"""The bars of the `tensorrt` lowerings, from a variant's accuracy and parity."""

from typing import Any

from benchmarks.bars.lowering import bars_of, table_of
from benchmarks.results import Summary, Variant
from tests.benchmarks.conftest import accuracy

END = "end to end, optimizations off"


def variant(name: str, correct: int, parity: dict[str, Any] | None = None, **against: Any) -> Variant:
    values = {
        "name": name,
        "target": "tensorrt" if parity else "onnx",
        "file": f"{name}/model.onnx",
        "size_bytes": 1,
        "accuracy": accuracy(correct, 400, against),
        "parity": parity,
    }
    return Variant.model_validate(values)


def parity(far: float = 0.004, above: float = 7.0) -> dict[str, Any]:
    return {
        "layers": {"codes_beyond_one_max": far},
        END: {"parity_db": 22.0 + above, "quantization_db": 22.0},
    }


def reached(one: Variant) -> list[bool]:
    return [bar.reached for bar in bars_of(one, variant("fp32", 320), 27.5)]


def test_every_bar_is_missed_for_its_own_reason() -> None:
    good = variant("int8-tensorrt", 318, parity(), agreement=0.98)
    assert reached(good) == [True] * 4
    assert reached(variant("int8-tensorrt", 317, parity(), agreement=0.98)) == [False, True, True, True]
    assert reached(variant("int8-tensorrt", 318, parity(), agreement=0.96)) == [True, False, True, True]
    far = variant("int8-tensorrt", 318, parity(far=0.006), agreement=0.98)
    assert reached(far) == [True, True, False, True]
    near = variant("int8-tensorrt", 318, parity(above=5.9), agreement=0.98)
    assert reached(near) == [True, True, True, False]
    assert "5.5 dB above" in bars_of(near, variant("fp32", 320), 27.5)[-1].remark


def test_the_table_has_the_lowerings_alone(summary: Summary) -> None:
    base = variant("fp32", 320)
    own = variant("int8-tensorrt", 318, parity(), agreement=0.98, sqnr_db=22.1)
    found = table_of(summary.model_copy(update={"variants": (base, own), "reference": "fp32"}))
    assert found.splitlines()[2] == "| `int8-tensorrt` | 0.50 points | 98.0 % | 22.1 dB | 29.0 dB |"
    assert len(found.splitlines()) == 3
