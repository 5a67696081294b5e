"""How much airtime a user buys at a price, and what the airtime costs when the slot is full.

A user that offloads at spectral efficiency u, in nats (u = ln(1 + SNR)), sends at

    ρ = c·u Mbps,  c = W / (v_u·ln 2),  and spends  ε = (e^u − 1) / s  W,  s = h / N0,

both while it has the channel. With a = Q + V·w, what a Mb is worth, and y = Y·energy_weight, what a joule
costs, a unit of airtime is worth g(u) = a·c·u − y·(e^u − 1) / s. At a price μ of airtime, a user takes the u
that makes a Mb cheapest, the least of (μ + y·ε) / ρ:

    (u − 1)·e^u + 1 = μ·s / y =: z,   at most u_max = ln(1 + P_max·s)                                      (1)

(u = 1 + W((z − 1) / e) with Lambert's W). It wants to send its whole queue if that is worth more than it
costs, which is so as long as μ < max g, the worth of its best airtime.

The published algorithm bisects the price: from [0, 10⁴] until the bracket is at most 1 wide, upwards while
the airtime wanted, Σ Q / ρ, is above 1. That sum only falls as the price rises, so the bracket that bisection
ends with is the cell of its grid in which the sum passes 1. :func:`full_slot_prices` finds that point for
many decisions at once, in a few steps of Newton's method where it does not lie at some user's max g, and the
14 bisections are not needed.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import lambertw

from examples.mec.queues import States
from examples.mec.system import Bools, Floats, MecSystem

__all__ = ["Links", "bisection_prices", "efficiency", "find_links", "full_slot_prices"]

_STEPS = 50  # of Newton's method at most; some 4 are needed
_CLOSE = 1e-5  # a relative step this small leaves an error of its square: far below a cell of the grid
_TINY = 1e-200  # instead of 0, in a denominator
_WEAKEST = 1e-3  # 1/W; a fade this deep sends nothing, and (1) would cancel


@dataclass(frozen=True)
class Links:
    """What the price search needs to know of each user; all are [S, N].

    Attributes:
        worth: a = Q + V·w, of a Mb.
        joule: y = Y·energy_weight, price of a joule.
        strength: s = h / N0, 1/W.
        peak: u_max, spectral efficiency at full power, nats.
        limit: z of (1) at full power.
        steepness: s / y, so that z = μ·steepness; huge where energy costs nothing.
        need: Q / c, airtime of the whole backlog times u.
        best: max g, the price from which on the user wants no airtime.
        at_best: airtime of the whole backlog at that price.
    """

    worth: Floats
    joule: Floats
    strength: Floats
    peak: Floats
    limit: Floats
    steepness: Floats
    need: Floats
    best: Floats
    at_best: Floats


def find_links(system: MecSystem, states: States) -> Links:
    """Find each user's link."""
    worth = states.backlog + system.lyapunov * system.weights
    joule = np.maximum(system.energy_weight * states.debt, _TINY)
    strength = np.maximum(states.gains / system.noise, _WEAKEST)
    snr = system.power * strength
    peak = np.log1p(snr)
    steepness = strength / joule
    value = worth * system.nat_rate
    # g' = 0 where e^u = a·c·s / y.
    nats = np.minimum(np.maximum(np.log(value * steepness), 0), peak)
    return Links(
        worth=worth,
        joule=joule,
        strength=strength,
        peak=peak,
        limit=(peak - 1) * (1 + snr) + 1,
        steepness=steepness,
        need=(need := states.backlog / system.nat_rate),
        best=value * nats - joule * np.expm1(nats) / strength,
        at_best=need / np.maximum(nats, _TINY),
    )


def efficiency(price: Floats, steepness: Floats, limit: Floats, peak: Floats) -> Floats:
    """Solve (1): spectral efficiency at a price, nats.

    One of Newton's steps from a table. Relative error below 10⁻¹⁰ where u > 0.02; for smaller ones the left
    side of (1) cancels.

    Args:
        price: μ > 0; all arguments broadcast.
        steepness: s / y.
        limit: z at u_max; larger ones are taken for it.
        peak: u_max.
    """
    z = np.minimum(price * steepness, limit)
    u = np.interp(np.log1p(np.sqrt(z)), _KNOTS, _AT_KNOTS)
    power = np.exp(u)
    slope = u * power
    return np.asarray(np.minimum(u - (slope - power + (1 - z)) / slope, peak))


def full_slot_prices(link: Links, offload: Bools, lowest: float | Floats) -> Floats:
    """The price at which the slot is just full: above it less than the whole airtime is wanted.

    The sum of wanted airtimes S jumps where a user stops, at its ``best``, so it is looked at there first,
    for all decisions by one product of matrices. Where S passes 1 between two of these points, ln S is a
    convex falling function of ln μ (each user's −ln u is, with slope −z / (u²·e^u) rising to 0, and so is
    such a sum): Newton's method in these coordinates, begun where S > 1, never passes the price where S = 1.

    Args:
        link: the users [S, N].
        offload: decisions [S, C, N].
        lowest: a price, or one of each state [S], that is as good as any below it.

    Returns:
        Prices [S, C], at least ``lowest``.
    """
    states, candidates, users = offload.shape
    points = np.empty((states, users + 1))
    points[:, -1] = lowest
    points[:, :-1] = np.maximum(link.best, points[:, -1:])
    nats = efficiency(points[..., None], link.steepness[:, None], link.limit[:, None], link.peak[:, None])
    # Airtime that user i wants just above point j: [S, j, i].
    wanted = link.need[:, None] / nats * (link.best[:, None] > points[..., None])
    below = np.full((states, 1, users + 1), np.inf)  # what a point's own user wants besides, just below it
    below[:, 0, :-1] = link.at_best
    chosen = np.ones((states, candidates, users + 1))
    chosen[..., :-1] = offload
    above = chosen[..., :-1] @ wanted.transpose(0, 2, 1)  # S just above each point [S, C, j]
    point = (points[:, None] * chosen * (above + below > 1)).argmax(axis=2)
    row = np.arange(states)[:, None]
    price: Floats = points[row, point]
    _raise_prices(link, offload, price, above[row, np.arange(candidates), point] > 1)
    return price


def _raise_prices(link: Links, offload: Bools, price: Floats, too_low: Bools) -> None:
    """Raise the prices [S, C] that are too low to where S = 1, in place."""
    state, candidate = np.nonzero(too_low)
    if not len(state):
        return
    mu = price[state, candidate]
    steepness, limit, peak = link.steepness[state], link.limit[state], link.peak[state]
    need = link.need[state] * (offload[state, candidate] & (link.best[state] > mu[:, None]))
    for _ in range(_STEPS):
        u = efficiency(mu[:, None], steepness, limit, peak)
        airtime = need / u
        total = airtime.sum(axis=1)
        # −dS / d ln μ; at full power a user's airtime does not depend on the price.
        z = mu[:, None] * steepness
        falls = (airtime * (z < limit) * np.minimum(z, limit) / (u * u * np.exp(u))).sum(axis=1)
        change = np.log(total) * total / np.maximum(falls, _TINY)
        mu = mu * np.exp(change)
        if change.max() < _CLOSE:
            break
    price[state, candidate] = mu


def bisection_prices(system: MecSystem, link: Links, offload: Bools) -> Floats:
    """The last price that the published bisection evaluates, [S, C].

    With n halvings (14 of 10⁴) the grid is price_limit / 2ⁿ wide. Bisection ends in the cell that holds the
    wanted price, the last of the cells if that is higher still, and has evaluated that end of the cell whose
    number is odd.
    """
    limit = system.price_limit or _highest_price(system, link)
    cells = 2 ** np.ceil(np.log2(limit))
    cell = limit / cells
    number = full_slot_prices(link, offload, lowest=cell / 2) // _column(cell)
    return np.asarray(_column(cell) * np.minimum(number + (number % 2 == 0), _column(cells) - 1))


def _highest_price(system: MecSystem, link: Links) -> Floats:
    """Nobody pays more than a·R_max [S]."""
    return np.asarray(np.maximum((link.worth * system.nat_rate * link.peak).max(axis=1), 2.0))


def _column(values: Floats) -> Floats:
    """[S] as [S, 1]; one number stays one."""
    return values[..., None] if values.ndim else values


_KNOTS = np.linspace(0, 20, 16001)
_AT_KNOTS = np.append(0.0, 1 + lambertw((np.expm1(_KNOTS[1:]) ** 2 - 1) / math.e).real)
