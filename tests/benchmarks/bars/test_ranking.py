import pytest

from benchmarks.bars.ranking import ranking_recipe
from quant.calibrate import check_methods


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_the_two_recipes_differ_in_the_ranking_method_alone(bits: int) -> None:
    ranked, plain = ranking_recipe(bits, True), ranking_recipe(bits, False)
    check_methods(ranked)
    assert [m.name for m in ranked.methods if m not in plain.methods] == ["ranking_aware"]
    assert ranked.model_copy(update={"methods": plain.methods}) == plain


@pytest.mark.parametrize("bits", [8, 6, 4])
def test_the_width_reaches_layers_and_attention_and_spares_the_edges(bits: int) -> None:
    recipe = ranking_recipe(bits, True)

    def width(role: str, layer: str) -> int | None:
        spec = recipe.spec_for(role, layer)
        return spec and spec.bits

    for role in ("linear.input", "linear.weight"):
        assert width(role, "blocks.0.mlp.fc1") == bits
        assert width(role, "head") == 8
    assert width("attention_qk.input", "blocks.0.attn.qk") == bits
    assert width("patch_conv.weight", "patch_embed.proj") == 8
    assert width("attention_pv.input", "blocks.0.attn.pv") is None
