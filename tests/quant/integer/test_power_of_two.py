"""Power-of-two factors against a search by hand, and as the observer of a format."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from quant.errors import BadInput
from quant.integer.power_of_two import power_of_two_factors
from quant.kernels import dequantize, fake_quantize, quantize_codes
from quant.observers import make_observer
from quant.qparams import qparams_from_range
from quant.spec import QuantSpec


def ptf(largest: int = 3, symmetric: bool = False, **options: float) -> QuantSpec:
    options = {"largest": largest} | options
    return QuantSpec(
        granularity="per_channel",
        axis=-1,
        symmetric=symmetric,
        observer="power_of_two",
        observer_options=options,
    )


def uneven(tokens: int = 300, seed: int = 0) -> Tensor:
    """[tokens, 8]; channel 5 is 60 times the others, channel 6 is dead."""
    x = torch.randn(tokens, 8, generator=torch.Generator().manual_seed(seed))
    return x * torch.tensor([0.5, 1.0, 2.0, 4.0, 8.0, 60.0, 0.0, 1.0])


def by_hand(x: Tensor, largest: int) -> tuple[float, int, list[int]]:
    """FQ-ViT's search, in Python floats."""
    low, high = float(x.min()), float(x.max())
    step = torch.tensor((high - low) / 255).item() / 2**largest
    z = round(-low / (step * 2**largest))
    factors = []
    for channel in x.T.tolist():
        errors = []
        for k in range(largest + 1):
            s = step * 2**k
            codes = [min(max(round(v / s) + z, 0), 255) for v in channel]
            errors.append(math.fsum((v - (q - z) * s) ** 2 for v, q in zip(channel, codes, strict=True)))
        factors.append(errors.index(min(errors)))
    return step, z, factors


@pytest.mark.parametrize("largest", [0, 3, 8])
def test_the_search(largest: int) -> None:
    x = uneven()
    found = power_of_two_factors(x.amin(0), x.amax(0), x.T, ptf(), largest)
    assert (found.step, found.zero_point, found.factors.tolist()) == by_hand(x, largest)


def test_the_observer_gives_exactly_these_scales() -> None:
    x = uneven()
    observer = make_observer(ptf(5))
    observer.update(x)
    step, z, factors = by_hand(x, 5)
    qparams = qparams_from_range(*observer.range(), observer.spec)
    assert qparams.scale.tolist() == [step * 2**k for k in factors]
    assert qparams.zero_point.tolist() == [z] * 8


def test_symmetric_codes_have_the_middle_zero_point_and_exact_ratios() -> None:
    observer = make_observer(ptf(6, symmetric=True))
    observer.update(uneven())
    qparams = qparams_from_range(*observer.range(), observer.spec)
    ratios = qparams.scale / qparams.scale.min()
    assert qparams.zero_point.tolist() == [128] * 8
    assert bool((torch.frexp(ratios).mantissa == 0.5).all())
    assert qparams.scale.max() == uneven().abs().max() / 127
    signed = observer.spec.model_copy(update={"signed": True})
    assert torch.equal(qparams_from_range(*observer.range(signed), signed).scale, qparams.scale)


def test_a_larger_factor_helps_where_one_channel_dominates() -> None:
    x = uneven()
    power = x[:, :5].square().mean(0)
    noise = []
    for largest in (0, 3, 6):
        found = power_of_two_factors(x.amin(0), x.amax(0), x.T, ptf(symmetric=True), largest)
        s = found.scale
        rounded = (x / s).round().clamp(-128, 127) * s
        noise.append(float(((x - rounded)[:, :5].square().mean(0) / power).mean()))
    assert noise[0] > 50 * noise[1] > 100 * noise[2]


def with_peaks() -> Tensor:
    """[3000, 8], of one scale but for channel 5, which reaches 400 in every 50th token."""
    x = torch.randn(3000, 8, generator=torch.Generator().manual_seed(1))
    x[::50, 5] += 400.0
    return x


def test_a_wide_channel_keeps_peaks_and_ordinary_values() -> None:
    """No factor can: a step of 3 for the peaks rounds the rest to 0. With 16 bits the step is the others'."""
    x = with_peaks()
    ordinary = torch.ones(3000, dtype=torch.bool)
    ordinary[::50] = False
    results = {}
    for wide in (0, 32):
        observer = make_observer(ptf(8, symmetric=True, wide=wide))
        observer.update(x)
        qparams = qparams_from_range(*observer.range(), observer.spec)
        qparams = replace(qparams, wide=observer.wide_channels)
        error = (fake_quantize(x, qparams) - x)[:, 5]
        results[wide] = (qparams.wide, float(error[ordinary].abs().max()), float(error.abs().max()))
    assert results[0][0] == ()
    assert results[0][1] > 1.0
    assert results[32][0] == (5,)
    assert results[32][2] < 0.02, "half a step of the others: range 4 over 127 codes"


def test_codes_of_a_wide_channel() -> None:
    x = with_peaks()
    observer = make_observer(ptf(3, symmetric=True, wide=32))
    observer.update(x)
    qparams = qparams_from_range(*observer.range(), observer.spec)
    qparams = replace(qparams, wide=observer.wide_channels)
    codes = quantize_codes(x, qparams)
    narrow = codes[:, torch.arange(8) != 5]
    assert int(narrow.min()) >= 0
    assert int(narrow.max()) <= 255
    assert int(codes[:, 5].max()) == 128 + round(float(x[:, 5].max() / qparams.scale[5]))
    assert torch.equal(dequantize(codes, qparams), fake_quantize(x, qparams))
    huge = torch.full((1, 8), 1e9)
    assert quantize_codes(huge, qparams).tolist() == [[255] * 5 + [128 + 2**15 - 1] + [255] * 2]


def test_batches_do_not_matter_and_memory_is_bounded() -> None:
    x = uneven(5000)
    whole, parts = (make_observer(ptf(samples=256)) for _ in range(2))
    whole.update(x)
    for part in torch.split(x, 197):
        parts.update(part)
    assert torch.equal(whole.state()["values"], parts.state()["values"])
    assert whole.state()["values"].shape[1] <= 256
    assert torch.equal(whole.state()["values"], x.T[:, ::32].contiguous())
    assert torch.equal(whole.range()[1], parts.range()[1])


def test_state_continues_where_it_was_taken() -> None:
    x = uneven(3000)
    first, second = (make_observer(ptf(samples=128)) for _ in range(2))
    first.update(x[:1001])
    second.load_state(first.state())
    for observer in (first, second):
        observer.update(x[1001:])
    assert all(torch.equal(first.state()[key], value) for key, value in second.state().items())


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (QuantSpec(observer="power_of_two"), "per_channel"),
        (ptf(13), "largest"),
        (ptf(samples=1), "samples"),
        (ptf(wide=0.5), "wide"),
    ],
)
def test_wrong_options_are_refused(spec: QuantSpec, word: str) -> None:
    with pytest.raises(BadInput, match=word):
        make_observer(spec, "stream")
