"""What the actor reads: one token per user, of three features, or four where users come and go.

    log(max(h, 10⁻⁴))·0.5 + 1.2,   log(1 + Q)·0.5 − 1.5,   log(1 + Y)·0.5 − 2

All of them lie within about −3.5 to 3. That is what makes the actor quantizable: with the published h, Q /
10⁴, Y / 10⁴ one 8-bit scale that reaches the largest h rounds nearly every Q and Y to nothing.
"""

import numpy as np
import numpy.typing as npt

from examples.mec.queues import States

__all__ = ["FEATURES", "features"]

FEATURES = 3
_LEAST_GAIN = 1e-4


def features(states: States, activity: bool = False) -> npt.NDArray[np.float32]:
    """Tokens [S, N, 3], or [S, N, 4] with ``activity``: 1 for users that are there, 0 for the others.

    Features of users that are not there are 0.
    """
    columns = [
        np.log(np.maximum(states.gains, _LEAST_GAIN)) * 0.5 + 1.2,
        np.log1p(states.backlog) * 0.5 - 1.5,
        np.log1p(states.debt) * 0.5 - 2.0,
    ]
    if activity:
        columns.append(np.ones_like(states.gains))
    tokens = np.stack(columns, axis=2) * states.active[..., None]
    return tokens.astype(np.float32)
