import math

import pytest
import torch

from quant.tuning.training import Training


@pytest.mark.parametrize(("warm_up", "rising"), [(0.0, 1), (0.3, 3)])
def test_rates_rise_in_a_line_and_fall_along_a_cosine(warm_up, rising):
    """Where the gradient is always 1, a step of Adam is as long as its rate."""
    fast, slow = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    training = Training([{"params": [fast], "lr": 0.1}, {"params": [slow], "lr": 0.01}], 10, warm_up)
    moved = []
    for _ in range(10):
        before = fast.item()
        training.step(fast + slow)
        moved.append((before - fast.item()) / 0.1)
    falling = [0.5 * (1 + math.cos(math.pi * t / (10 - rising))) for t in range(10 - rising)]
    wanted = [(t + 1) / rising for t in range(rising)] + falling
    assert moved == pytest.approx(wanted, abs=1e-6)  # Adam adds 1e-8 to the gradient's size
    assert slow.item() == pytest.approx(0.1 * fast.item(), rel=1e-6)
