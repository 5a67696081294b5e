"""The running figures of the logits."""

import torch
from torch import Tensor

from quant.profile.figures import EndToEnd
from quant.profile.moments import PairMoments

__all__ = ["EndToEndCollector"]


class EndToEndCollector:
    """Collects an :class:`EndToEnd`."""

    def __init__(self) -> None:
        self._moments = PairMoments()
        self._images = self._agreeing = 0
        self._cosine = self._kl = 0.0

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add the logits [B, K] of the float graph and of the quantized graph."""
        x, y = x.double(), y.double()
        self._moments.update(x.flatten(), y.flatten())
        self._images += len(x)
        self._agreeing += int((x.argmax(-1) == y.argmax(-1)).sum())
        self._cosine += float(torch.cosine_similarity(x, y, dim=-1).sum())
        p, q = x.log_softmax(-1), y.log_softmax(-1)
        self._kl += float((p.exp() * (p - q)).sum())

    def result(self) -> EndToEnd:
        """The figures so far."""
        return EndToEnd(
            sqnr_db=self._moments.qsnr_db,
            agreement=self._agreeing / self._images,
            cosine=self._cosine / self._images,
            kl=self._kl / self._images,
        )
