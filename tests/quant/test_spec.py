import pytest
from pydantic import ValidationError

from quant.spec import QuantSpec


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({"bits": 8}, (0, 255)),
        ({"bits": 8, "signed": True}, (-128, 127)),
        ({"bits": 8, "signed": True, "symmetric": True, "narrow": True}, (-127, 127)),
        ({"bits": 8, "symmetric": True, "narrow": True}, (1, 255)),
        ({"bits": 4, "signed": True}, (-8, 7)),
        ({"bits": 2, "signed": True, "symmetric": True, "narrow": True}, (-1, 1)),
        ({"bits": 3}, (0, 7)),
        ({"scheme": "fp8_e4m3", "signed": True, "symmetric": True}, (-448, 448)),
    ],
)
def test_codes(fields: dict[str, object], codes: tuple[int, int]) -> None:
    spec = QuantSpec.model_validate(fields)
    assert (spec.qmin, spec.qmax) == codes


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"bits": 9}, "less than or equal to 8"),
        ({"bits": 1}, "greater than or equal to 2"),
        ({"granularity": "per_group"}, "give group_size"),
        ({"group_size": 32}, "granularity 'per_group'"),
        ({"narrow": True}, "only with symmetric"),
        ({"scheme": "log2", "signed": True}, "only unsigned"),
        ({"scheme": "fp8_e4m3", "signed": True}, "symmetric: true"),
        ({"scheme": "fp8_e4m3", "signed": True, "symmetric": True, "bits": 6}, "bits: 8"),
        ({"scheme": "fp8_e4m3", "signed": True, "symmetric": True, "narrow": True}, "leave narrow out"),
        ({"granularity": "per_token"}, "'per_tensor', 'per_channel' or 'per_group'"),
        ({"bit": 8}, "Extra inputs"),
    ],
)
def test_refusals_say_what_is_allowed(fields: dict[str, object], hint: str) -> None:
    with pytest.raises(ValidationError, match=hint):
        QuantSpec.model_validate(fields)


def test_defaults_for_weights_and_activations() -> None:
    weight, activation = QuantSpec.weight(), QuantSpec.activation(6)
    assert (weight.signed, weight.symmetric, weight.narrow, weight.granularity) == (
        True,
        True,
        True,
        "per_channel",
    )
    assert (activation.signed, activation.symmetric, activation.granularity) == (False, False, "per_tensor")
    assert activation.qmax == 63


def test_survives_json() -> None:
    spec = QuantSpec.weight(4, granularity="per_group", group_size=32, observer="omse")
    assert QuantSpec.model_validate_json(spec.model_dump_json()) == spec
