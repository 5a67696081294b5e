"""The edge server and its users: every constant of the simulation, with its unit.

One server, N users, time in slots of T = 1 s, so that Mb per slot are Mbps and J per slot are W. In a slot
each user computes locally or offloads; those that offload share the slot's airtime (TDMA). Downloads and the
server's own computing time are left out. Source of the model and its values: Bi, Huang, Wang and Zhang,
"Lyapunov-guided deep reinforcement learning for stable online computation offloading in mobile-edge computing
networks" (IEEE Transactions on Wireless Communications, 2021), sections II and V.
"""

import math
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt

from quant.errors import BadInput

__all__ = ["Bools", "Floats", "MecSystem"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MecSystem:
    """Constants of the system.

    Attributes:
        users: N, how many users there are at most.
        nearest: distance of the first user from the server, m.
        farthest: distance of the last user, m; the others are evenly spaced between.
        antenna_gain: A_d, of both antennas together.
        carrier: carrier frequency f_c, Hz.
        path_loss: path-loss exponent.
        line_of_sight: share of the mean channel gain that the direct path has (Rician fading).
        gain_scale: channel gains and noise are both multiplied by it, so that gains are of the order of 1.
        bandwidth: W, MHz, so that rates are in Mbps.
        noise_density: noise power density, dBm/Hz.
        power: P_max, the highest transmit power, W.
        overhead: v_u > 1, transmitted bits per bit of data.
        cycles_per_bit: φ, of the processor.
        frequency: f_max, highest clock of a user's processor, MHz.
        capacitance: κ in units of J/MHz³: computing for one slot at f MHz takes κ·f³ J (10⁻²⁶ in J/Hz³).
        energy_limit: γ, what a user may spend on average, J per slot.
        energy_scale: ν, scale of the virtual energy queue, per J.
        energy_weight: the critic multiplies the virtual energy queue by it; published with the code, not in
            the text.
        lyapunov: V, weight of the rate against the queues' drift, Mb.
        weight_even: rate weight of users 0, 2, 4, ...
        weight_odd: rate weight of users 1, 3, 5, ...
        price_limit: upper end of the search for the airtime price. It is too low where (Q + V·w)·R_max is
            above it (a backlog of some 700 Mb); None takes the largest of these in each slot, which an
            overload needs.

    Raises:
        BadInput: a value is outside of its range.
    """

    users: int = 10
    nearest: float = 120.0
    farthest: float = 255.0
    antenna_gain: float = 3.0
    carrier: float = 915e6
    path_loss: float = 3.0
    line_of_sight: float = 0.3
    gain_scale: float = 1e10
    bandwidth: float = 2.0
    noise_density: float = -174.0
    power: float = 0.1
    overhead: float = 1.1
    cycles_per_bit: float = 100.0
    frequency: float = 300.0
    capacitance: float = 1e-8
    energy_limit: float = 0.08
    energy_scale: float = 1000.0
    energy_weight: float = 10.0
    lyapunov: float = 20.0
    weight_even: float = 1.5
    weight_odd: float = 1.0
    price_limit: float | None = 1e4

    def __post_init__(self) -> None:
        if self.users < 1:
            raise BadInput(f"users is {self.users}; at least 1 is needed")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("users", "noise_density", "line_of_sight") or value is None:
                continue
            if not 0 < value < math.inf:
                raise BadInput(f"{field.name} is {value}; a positive number is needed")
        if not 0 <= self.line_of_sight <= 1:
            raise BadInput(f"line_of_sight is {self.line_of_sight}; a share from 0 to 1 is needed")

    @cached_property
    def mean_gains(self) -> Floats:
        """Mean channel gain of each user [N], times ``gain_scale``: A_d·(c / (4π·f_c·d))^exponent."""
        distances = np.linspace(self.nearest, self.farthest, self.users)
        free_space = 3e8 / (4 * math.pi * self.carrier * distances)
        return np.asarray(self.gain_scale * self.antenna_gain * free_space**self.path_loss)

    @cached_property
    def noise(self) -> float:
        """Noise power over the bandwidth, W, times ``gain_scale``."""
        watt_per_hertz = 10 ** (self.noise_density / 10) * 1e-3
        return self.bandwidth * 1e6 * watt_per_hertz * self.gain_scale

    @cached_property
    def weights(self) -> Floats:
        """Weight w of each user's rate [N]."""
        return np.where(np.arange(self.users) % 2 == 0, self.weight_even, self.weight_odd)

    @cached_property
    def nat_rate(self) -> float:
        """Link rate in Mbps per nat: W / (v_u·ln 2), so that a link's rate is this times ln(1 + SNR)."""
        return self.bandwidth / (self.overhead * math.log(2))

    def peak_rates(self, gains: Floats) -> Floats:
        """R_max, the rates at full power over the whole slot, Mbps: (W / v_u)·log2(1 + P_max·h / N0)."""
        return self.nat_rate * np.log1p(self.power * gains / self.noise)
