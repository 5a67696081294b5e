import io
from dataclasses import replace

from rich.console import Console

from benchmarks.profile.terminal import print_profile
from quant.profile import EndToEnd, OutlierLine, Profile
from tests.quant.profile.test_remedies import HEALTHY, layer


def printed(profile: Profile, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_profile(profile, "vit [tiny]", console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def profile_of(*layers) -> Profile:
    return Profile(8, layers, (), EndToEnd(21.34, 0.975, 0.998, 0.01), OutlierLine(1.0, 0.0, 1.0))


def test_the_worst_layer_is_named_with_what_to_try():
    worst = layer(isolated={"qsnr_db": 23.5}, input={"channel_ratio": 100.7})
    text = printed(profile_of(replace(HEALTHY, name="blocks.0.mlp.fc2"), worst))
    assert "vit [tiny]" in text
    assert "Worst layer: blocks.7.mlp.fc2, 23.5 dB alone" in text
    after = text[text.index("Worst layer") :]
    assert "100.7 times" in after
    assert "try outlier_side_path or gelu_scale" in " ".join(after.split())
    assert "SQNR 21.3 dB, agreement 97.5%" in text


def test_every_layer_has_a_row_that_fits_a_terminal():
    text = printed(profile_of(HEALTHY, replace(HEALTHY, name="blocks.11.attn.proj")))
    row = next(line for line in text.splitlines() if "blocks.11.attn.proj" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        *("blocks.11.attn.proj", "35.0", "40.0", "0.9990", "1.0 → 1.0", "40.0", "30%"),
    ]


def test_a_layer_without_error_has_an_infinite_ratio():
    exact = replace(
        layer(isolated={"qsnr_db": float("inf")}), weight=None, input=replace(HEALTHY.input, bits=None)
    )
    row = next(line for line in printed(profile_of(exact)).splitlines() if "fc2" in line)
    assert "∞" in row
    assert "–" in row
