"""What the network loses with one unit quantized."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from quant.calibrated import CalibratedGraph
from quant.encoding import Encoding, freeze, set_quantizing
from quant.mixed.groups import Group
from quant.mixed.replay import replay
from quant.mixed.sensitivity.kl import kl
from quant.progress import Progress, silent

__all__ = ["unit_losses"]


@torch.no_grad()
def unit_losses(
    calibrated: CalibratedGraph,
    units: Sequence[Group],
    encoding: Encoding,
    images: Sequence[Tensor],
    progress: Progress = silent,
) -> dict[str, float]:
    """Mean KL divergence of the class probabilities from those of the float network, unit by unit.

    Args:
        calibrated: its fake-quant layers are left off.
        units: each is quantized alone, in front of a float network.
        encoding: the target's number formats.
        images: batches [N, C, H, W].
        progress: told what is done.

    Returns:
        Unit to its loss in nats; see :mod:`quant.mixed.sensitivity.kl`.
    """
    frozen = freeze(calibrated, encoding)
    set_quantizing(calibrated, None)
    total = {unit.name: 0.0 for unit in units}
    done, cells = 0, len(units) * len(images)
    for batch in images:
        reference = calibrated.graph(batch).double()

        def visit(unit: Group, finish: Callable[[], Any], reference: Tensor = reference) -> None:
            nonlocal done
            own = [site.quantizer for site in unit.sites if site.name in frozen]
            for quantizer in own:
                quantizer.quantize()
            total[unit.name] += float(kl(reference, finish().double()).sum())
            for quantizer in own:
                quantizer.off()
            done += 1
            progress("losses", done, cells)

        replay(calibrated.graph, units, batch, visit)
    count = sum(len(batch) for batch in images)
    return {name: value / count for name, value in total.items()}
