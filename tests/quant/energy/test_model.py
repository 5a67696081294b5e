"""The energy model against a worked example for ViT-Tiny and against sums written out here."""

import dataclasses

import pytest

from quant.census import LayerCount, LayerKind
from quant.energy.bits import LayerBits, bits_of
from quant.energy.constants import EnergyConstants, Memory
from quant.energy.model import EnergySettings, MultiplierRule, energy_of, mac_energy
from quant.errors import BadInput, Unsupported
from quant.recipe import Recipe

LAYER = LayerCount("fc", LayerKind.LINEAR, macs=1000, weights=10, inputs=20, outputs=30)
PRODUCT = LayerCount(
    "attn.qk", LayerKind.ATTENTION_QK, macs=1000, weights=0, inputs=20, outputs=30, second_inputs=40
)
VALUES = dataclasses.replace(PRODUCT, name="attn.pv", kind=LayerKind.ATTENTION_PV)
SIDE = LayerCount("side", LayerKind.OTHER, macs=10, weights=1, inputs=2, outputs=3)


def vit_tiny() -> list[LayerCount]:
    """12 blocks of width 192 with 3 heads over 197 tokens, patches of 16 × 16, 1000 classes."""
    tokens, width, classes = 197, 192, 1000

    def linear(name: str, rows: int, i: int, o: int) -> LayerCount:
        return LayerCount(name, LayerKind.LINEAR, rows * i * o, i * o, rows * i, rows * o)

    layers = [linear("patch_embed", 196, 3 * 16 * 16, width), linear("head", 1, width, classes)]
    scores = 3 * tokens * tokens
    for n in range(12):
        sizes = {"qkv": (width, 3 * width), "proj": (width, width), "fc1": (width, 4 * width)}
        sizes["fc2"] = (4 * width, width)
        layers += [linear(f"{n}.{name}", tokens, *size) for name, size in sizes.items()]
        macs, x = tokens * tokens * width, tokens * width
        layers.append(LayerCount(f"{n}.qk", LayerKind.ATTENTION_QK, macs, 0, x, scores, x))
        layers.append(LayerCount(f"{n}.pv", LayerKind.ATTENTION_PV, macs, 0, scores, x, x))
    return layers


@pytest.mark.parametrize(
    ("weight", "activation", "rule", "macs", "weights"),
    [
        (32, 32, "max", 5.77, 3.67),
        (8, 8, "max", 0.376, 0.917),
        (8, 8, "product", 0.376, 0.917),
        (6, 6, "max", 0.266, 0.688),
        (4, 8, "max", 0.376, 0.459),
        (4, 8, "product", 0.251, 0.459),
        (4, 4, "max", 0.188, 0.459),
    ],
)
def test_the_worked_example(weight: int, activation: int, rule: str, macs: float, weights: float) -> None:
    """ViT-Tiny, one image, millijoules.

    The published figures have three digits, some cut: one of the last digit. They take 1300 / 64 as 20.3.
    """
    census = vit_tiny()
    bits = {layer.name: LayerBits(weight, activation, activation) for layer in census}
    energy = energy_of(census, bits, EnergySettings(rule=MultiplierRule(rule)))
    assert energy.macs * 1e3 == pytest.approx(macs, abs=0.01 if macs > 1 else 0.001)
    assert energy.weights * 1e3 == pytest.approx(weights, abs=0.01 if weights > 1 else 0.001)
    assert energy.total == pytest.approx(sum(layer.total for layer in energy.layers))


def test_memory_traffic_is_counted_by_bit() -> None:
    bits = {"fc": LayerBits(weight=4, activation=8, output=32)}
    settings = EnergySettings(weights=Memory.SRAM_8K, activations=Memory.SRAM_32K, weight_reads=0.5)
    (layer,) = energy_of([LAYER], bits, settings).layers
    assert layer.weights == pytest.approx(10 * 4 * 0.5 * 10e-12 / 64)
    assert layer.activations == pytest.approx((20 * 8 + 30 * 32) * 20e-12 / 64)
    assert layer.macs == pytest.approx(1000 * 0.3e-12)


def test_both_operands_of_a_product_move_in_their_own_widths() -> None:
    bits = {"attn.pv": LayerBits(weight=6, activation=8, output=32)}
    (layer,) = energy_of([VALUES], bits, EnergySettings(activations=Memory.SRAM_32K)).layers
    assert layer.weights == 0
    assert layer.activations == pytest.approx((20 * 8 + 40 * 6 + 30 * 32) * 20e-12 / 64)
    assert layer.macs == pytest.approx(1000 * 0.3e-12)


def test_where_values_live_decides_what_dominates() -> None:
    census = vit_tiny()
    bits = {layer.name: LayerBits(8, 8, 8) for layer in census}
    far = energy_of(census, bits, EnergySettings(weights=Memory.DRAM))
    near = energy_of(census, bits, EnergySettings(weights=Memory.SRAM_1M))
    assert far.weights > 2 * far.macs
    assert near.weights < near.macs / 4
    assert far.weights / near.weights == pytest.approx(13.0)


def test_a_float_operand_makes_the_arithmetic_float() -> None:
    assert mac_energy(4, 32) == mac_energy(32, 32) == pytest.approx(4.6e-12)
    assert mac_energy(4, 16) == mac_energy(16, 8) == mac_energy(16, 16) == pytest.approx(1.5e-12)


def test_the_square_law_meets_the_measured_32_bit_multiplier() -> None:
    """Horowitz measured 3.1 pJ at 32 bits; the law fixed at 8 bits gives 3.2."""
    assert EnergyConstants().int8_multiply * (32 / 8) ** 2 == pytest.approx(3.1e-12, rel=0.05)


def test_constants_can_be_replaced() -> None:
    constants = dataclasses.replace(EnergyConstants(), int8_multiply=1.0, int32_add=0.5)
    settings = EnergySettings(constants=constants)
    assert mac_energy(4, 4, settings) == pytest.approx(0.75)
    with pytest.raises(BadInput, match="dram"):
        EnergyConstants(dram=-1.0)
    with pytest.raises(BadInput, match="weight_reads"):
        EnergySettings(weight_reads=float("nan"))


def test_unknown_widths_and_missing_layers_are_refused() -> None:
    with pytest.raises(BadInput, match="12 bits"):
        mac_energy(12, 8)
    with pytest.raises(BadInput, match="'fc'"):
        energy_of([LAYER], {})


def recipe_of(**changes: object) -> Recipe:
    weight = {"bits": 4, "signed": True, "symmetric": True}
    specs = {"a": {"bits": 6}, "w": weight, "p": {"bits": 8}}
    roles = {"linear.input": "a", "linear.weight": "w", "attention_qk.input": "a"}
    roles |= {"attention_pv.input": "a", "softmax.output": "p"}
    return Recipe.model_validate({"name": "test", "specs": specs, "roles": roles} | changes)


def test_widths_follow_the_recipe() -> None:
    found = bits_of(recipe_of(), [LAYER, PRODUCT, VALUES, SIDE])
    assert found["fc"] == LayerBits(4, 6, 32)
    assert found["attn.qk"] == LayerBits(6, 6, 32)
    assert found["attn.pv"] == LayerBits(weight=6, activation=8, output=32)
    assert found["side"] == LayerBits(32, 32, 32)


def test_widths_follow_exceptions_and_the_float_type() -> None:
    override = {"modules": "fc", "roles": {"linear.input": None, "linear.output": "a"}}
    found = bits_of(
        recipe_of(overrides=[override], exclude=["attn.*"]), [LAYER, PRODUCT, SIDE], float_bits=16
    )
    assert found["fc"] == LayerBits(4, 16, 6)
    assert found["attn.qk"] == found["side"] == LayerBits(16, 16, 16)


def test_fp8_is_refused_and_not_taken_for_int8() -> None:
    fp8 = {"bits": 8, "signed": True, "symmetric": True, "scheme": "fp8_e4m3"}
    with pytest.raises(Unsupported, match="FP8"):
        bits_of(recipe_of(specs={"a": {"bits": 6}, "w": fp8, "p": {"bits": 8}}), [LAYER])
