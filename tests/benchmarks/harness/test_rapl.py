from pathlib import Path

import pytest

from benchmarks.harness.rapl import EnergyCounter

SPAN = 262_143_328_850


def write(folder: Path, **packages: int) -> None:
    for name, microjoules in packages.items():
        package = folder / name.replace("_", ":").replace("rapl", "intel-rapl", 1)
        package.mkdir(exist_ok=True)
        (package / "energy_uj").write_text(f"{microjoules}\n")
        (package / "max_energy_range_uj").write_text(f"{SPAN}\n")


def test_packages_are_summed_and_their_parts_are_not(tmp_path: Path) -> None:
    write(tmp_path, rapl_0=1_000_000, rapl_1=5_000_000, rapl_0_0=900_000)
    counter = EnergyCounter(tmp_path)
    assert counter.readable
    write(tmp_path, rapl_0=3_500_000, rapl_1=6_000_000, rapl_0_0=2_000_000)
    assert counter.joules() == pytest.approx(3.5)
    assert counter.joules() == 0.0


def test_a_counter_that_starts_anew_goes_on(tmp_path: Path) -> None:
    write(tmp_path, rapl_0=SPAN - 1_000_000)
    counter = EnergyCounter(tmp_path)
    write(tmp_path, rapl_0=2_000_000)
    assert counter.joules() == pytest.approx(3.0)


def test_what_cannot_be_read_is_not_made_up(tmp_path: Path) -> None:
    assert EnergyCounter(tmp_path).joules() is None
    write(tmp_path, rapl_0=1)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    counter = EnergyCounter(tmp_path)
    assert not counter.readable
    assert counter.joules() is None
