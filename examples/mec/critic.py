"""The critic: the best resource allocation for given offloading decisions, and what it is worth.

The per-slot problem of Lyapunov's drift plus penalty, for a state (h, Q, Y) and a decision x:

    maximise Σ (Q_i + V·w_i)·D_i − Σ y_i·e_i,  y_i = energy_weight·Y_i,

over processor clocks, airtimes and powers. Data D_i is at most the backlog Q_i; airtimes sum to at most the
slot. Users that compute locally are independent of each other and have a closed form; those that offload
share the slot by the price of :mod:`examples.mec.airtime`, then by a fractional knapsack. All decisions of a
slot, and of several simulations, are evaluated at once.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from examples.mec.airtime import Links, bisection_prices, efficiency, find_links
from examples.mec.queues import States
from examples.mec.system import Bools, Floats, MecSystem

__all__ = ["Allocation", "allocate"]

_DECIMALS = 6  # the published code rounds rates and energies, after the objective


@dataclass(frozen=True)
class Allocation:
    """What each decision gives.

    Attributes:
        objective: what is maximised [S, C], Mb².
        rates: D, data served [S, C, N], Mb.
        energies: e, energy spent [S, C, N], J.
    """

    objective: Floats
    rates: Floats
    energies: Floats

    def of(self, choice: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
        """Rates and energies [S, N] of one decision in each state [S], rounded as the published code does."""
        rows = np.arange(len(choice))
        return self.rates[rows, choice].round(_DECIMALS), self.energies[rows, choice].round(_DECIMALS)


def allocate(system: MecSystem, states: States, offload: Bools) -> Allocation:
    """Allocate the slot for each decision.

    Args:
        system: the constants.
        states: S states of N users.
        offload: decisions [S, C, N]; True offloads.
    """
    link = find_links(system, states)
    local_rates, local_energies = _local(system, link, states.backlog)
    rates, energies = _offloaded(system, link, offload)
    local = ~offload
    np.copyto(rates, local_rates[:, None], where=local)
    np.copyto(energies, local_energies[:, None], where=local)
    objective = rates @ link.worth[..., None] - energies @ link.joule[..., None]
    return Allocation(objective[..., 0], rates, energies)


def _local(system: MecSystem, link: Links, backlog: Floats) -> tuple[Floats, Floats]:
    """Rates and energies [S, N] of users that compute themselves.

    a·f / φ − y·κ·f³ is largest at f = √(a / (3·φ·κ·y)); no more than the whole backlog, f = φ·Q, and f_max.
    """
    phi, kappa = system.cycles_per_bit, system.capacitance
    clock = np.sqrt(link.worth / (3 * phi * kappa * link.joule))
    clock = np.minimum(np.minimum(clock, phi * backlog), system.frequency)
    return clock / phi, kappa * clock**3


def _offloaded(system: MecSystem, link: Links, offload: Bools) -> tuple[Floats, Floats]:
    """Rates and energies [S, C, N] of users that offload; those of the others mean nothing.

    At the rates per airtime ρ and powers ε that the price gives, what remains is linear: maximise
    Σ (a − y·ε / ρ)·D with Σ D / ρ ≤ 1. The best goes first: users by worth per airtime, a·ρ − y·ε, each its
    whole backlog while the slot lasts.
    """
    price = bisection_prices(system, link, offload)[..., None]
    nats = efficiency(price, link.steepness[:, None], link.limit[:, None], link.peak[:, None])
    rho = system.nat_rate * nats
    power = np.expm1(nats) / link.strength[:, None]
    density = (link.worth[:, None] * rho - link.joule[:, None] * power) * offload
    wanted = link.need[:, None] / nats * (density > 0)
    # Positions in the flat arrays, each decision's users by falling density.
    rows = np.arange(0, density.size, density.shape[2]).reshape(*density.shape[:2], 1)
    order = (rows + np.argsort(-density, axis=2, kind="stable")).ravel()
    sorted_wanted = wanted.ravel()[order].reshape(wanted.shape)
    before = np.cumsum(sorted_wanted, axis=2) - sorted_wanted
    flat = np.empty(wanted.size)
    flat[order] = np.minimum(sorted_wanted, np.maximum(1 - before, 0)).ravel()
    airtime = flat.reshape(wanted.shape)
    return airtime * rho, airtime * power
