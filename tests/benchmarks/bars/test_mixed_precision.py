from typing import Any

from benchmarks.bars.mixed_precision import allocation_bars, dominated

BUDGET: dict[str, Any] = {"budget": "energy 0.8 of 8 bits", "kind": "energy"}


def choice(name: str, kl: float, energy: float, **more: Any) -> dict[str, Any]:
    return (
        BUDGET
        | {"name": name, "kl": kl, "energy_mj": energy, "mean_bits": 6.0, "difference": [-0.2, -0.1]}
        | more
    )


def test_more_loss_or_more_energy_or_the_same_is_not_domination() -> None:
    rule = choice("thresholds", 0.3, 1.0)
    assert dominated(rule, choice("milp", 0.2, 1.0))
    assert dominated(rule, choice("milp", 0.2, 0.9))
    assert not dominated(rule, choice("milp", 0.2, 1.01))
    assert not dominated(rule, choice("milp", 0.3, 0.9))
    # A budget of mean bits is compared by mean bits.
    bits = choice("thresholds", 0.3, 1.0, kind="mean_bits")
    assert dominated(bits, choice("milp", 0.2, 1.1, kind="mean_bits"))


def test_a_bar_counts_the_budgets_of_its_kind() -> None:
    found = [choice("uniform 8", 0.1, 2.0, budget=None, kind=None)]
    for value, kl in ((0.7, 0.2), (0.8, 0.4), (0.9, 0.2)):
        budget = {"budget": f"energy {value} of 8 bits"}
        found += [choice("thresholds", 0.3, 1.0, **budget), choice("milp", kl, 1.0, **budget)]
        found.append(choice("nuclear", 0.0, 0.1, **budget))
    (bar,) = allocation_bars("net", found)
    assert (bar.measured, bar.limit, bar.reached) == (2, 3, False)
    assert "energy 0.7 of 8 bits: KL 0.3000 → 0.2000 (beyond chance) at 1 → 1 mJ" in bar.remark
    found[5] |= {"kl": 0.29, "difference": [-0.2, 0.1]}
    (bar,) = allocation_bars("net", found)
    assert bar.reached
    assert "0.2900 (within chance)" in bar.remark
