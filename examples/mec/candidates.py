"""Order-preserving candidates: the few decisions that the critic compares.

The actor gives one logit per user, l > 0 for "offload" (p = sigmoid(l) > ½). The first candidate is [l > 0].
The k-th takes the user j whose logit is k-th nearest to 0: where j would offload, it and all users that are
less sure of offloading do not; where j would not, it and all users that are less sure of not offloading do.
|l| puts users in the same order as |p − ½| does, and unlike the probability it does not saturate. Users whose
logits tie are in the order of their index, so each k gives a decision of its own, on every runtime.

Source: Huang, Bi and Zhang, "Deep reinforcement learning for online computation offloading in wireless
powered mobile-edge computing networks" (IEEE Transactions on Mobile Computing, 2020), section IV.B; the noisy
variant is that of LyDROO (see :mod:`examples.mec.system`), section IV.B.
"""

from collections import deque

import numpy as np
import numpy.typing as npt

from examples.mec.system import Bools, Floats

__all__ = ["AdaptiveCount", "deduplicate", "noisy_logits", "order_preserving", "single_users"]


def order_preserving(logits: Floats, active: Bools, count: int) -> Bools:
    """The first ``count`` candidates.

    Args:
        logits: [S, N].
        active: who is there [S, N]; the others never offload.
        count: K, from 1 to N. Where fewer users are there, the first candidate fills up.

    Returns:
        Decisions [S, K, N].
    """
    first = (logits > 0) & active
    distance = np.where(active, np.abs(logits), np.inf)
    order = np.argsort(distance, axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    turning = order[:, : count - 1]  # j of each k [S, K − 1]
    rows = np.arange(len(logits))[:, None]
    same_side = first[:, None] == first[rows, turning][..., None]
    turns = np.arange(count - 1)
    nearer = rank[:, None] <= turns[:, None]
    exists = turns < active.sum(axis=1)[:, None] - 1  # n users have n candidates
    flipped = same_side & nearer & active[:, None] & exists[..., None]
    return np.concatenate([first[:, None], first[:, None] ^ flipped], axis=1)


def noisy_logits(logits: Floats, generator: np.random.Generator) -> Floats:
    """Logits of the noisy variant, OPN: candidates are ordered by p + n − ½ with n ~ N(0, 1)."""
    probability = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return np.asarray(probability + generator.standard_normal(logits.shape) - 0.5)


def single_users(active: Bools) -> Bools:
    """Nobody, or one user that is there: decisions [S, N + 1, N]."""
    nobody = np.zeros((len(active), 1, active.shape[1]), bool)
    alone = np.eye(active.shape[1], dtype=bool) & active[:, None]
    return np.concatenate([nobody, alone], axis=1)


def deduplicate(decisions: Bools) -> tuple[Bools, npt.NDArray[np.intp]]:
    """Each decision of one state once, in the order of first occurrence.

    Args:
        decisions: [1, C, N]; equal ones cannot be left out of several states at once, which would differ in
            number.

    Returns:
        The decisions [1, C', N], and which of the given ones they are [C'].
    """
    seen = {row.tobytes(): index for index, row in reversed(list(enumerate(decisions[0])))}
    kept = np.array(sorted(seen.values()), dtype=np.intp)
    return decisions[:, kept], kept


class AdaptiveCount:
    """How many candidates are worth asking for: two more than the last that won, over the recent frames.

    Every ``interval`` frames K = min(2 + the largest index that won in the last ``interval`` frames, N),
    counted from 0 and modulo K, since the noisy half counts anew.
    """

    def __init__(self, users: int, interval: int = 32) -> None:
        self.count = self._most = users
        self._winners: deque[int] = deque(maxlen=interval)
        self._frames = 0

    def won(self, index: int) -> None:
        """Record a frame's winner: its index among the candidates that were asked for."""
        self._winners.append(index % self.count)
        self._frames += 1
        if self._frames % (self._winners.maxlen or 1) == 0:
            self.count = min(max(self._winners) + 2, self._most)
