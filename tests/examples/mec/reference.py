"""The published critic, one decision at a time: bisection with Lambert's W, then a linear program."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.special import lambertw

from examples.mec.system import MecSystem

Floats = npt.NDArray[np.float64]


def published_critic(
    system: MecSystem, gains: Floats, backlog: Floats, debt: Floats, offload: npt.NDArray[np.bool_]
) -> tuple[float, Floats, Floats]:
    """Objective, rates and energies of one decision [N] in one state."""
    worth, joule = backlog + system.lyapunov * system.weights, 10 * debt
    rates, energies = np.zeros(len(gains)), np.zeros(len(gains))
    objective = 0.0
    for user in np.flatnonzero(~offload):
        best = np.inf if joule[user] == 0 else np.sqrt(worth[user] / (3 * 100 * 1e-8 * joule[user]))
        clock = min(best, 100 * backlog[user], 300.0)
        rates[user], energies[user] = clock / 100, 1e-8 * clock**3
        objective += worth[user] * rates[user] - joule[user] * energies[user]
    users = np.flatnonzero(offload)
    if len(users):
        a, y, q, s = worth[users], joule[users], backlog[users], gains[users] / system.noise
        per_nat = system.bandwidth / system.overhead / np.log(2)
        low, high = 0.0, 1e4
        while high - low > 1:
            price = (low + high) / 2
            with np.errstate(divide="ignore"):
                nats = np.where(y > 0, lambertw((price * s / y - 1) / np.e).real + 1, np.inf)
            rho = np.minimum(per_nat * nats, system.peak_rates(gains[users]))
            power = (2 ** (rho * system.overhead / system.bandwidth) - 1) / s
            wants = a - price / rho - y * power / rho > 0
            if (q / rho)[wants].sum() > 1:
                low = price
            else:
                high = price
        value = a - y * power / rho
        found = linprog(-value, A_ub=[1 / rho], b_ub=[1], bounds=[(0, most) for most in q])
        served = np.round(found.x, 6)
        rates[users], energies[users] = served, power * served / rho
        objective += float(value @ served)
    return float(objective), rates.round(6), energies.round(6)
