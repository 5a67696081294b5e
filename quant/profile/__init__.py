"""Compare a quantized graph with its float reference, layer by layer, and say what to try."""

from quant.profile.compare import profile
from quant.profile.figures import (
    OUTLIER_SIGMAS,
    BlockProfile,
    Comparison,
    EndToEnd,
    InputProfile,
    Isolated,
    LayerProfile,
    OutlierLine,
    Profile,
    WeightProfile,
)
from quant.profile.remedies import Finding, remedies

__all__ = [
    "OUTLIER_SIGMAS",
    "BlockProfile",
    "Comparison",
    "EndToEnd",
    "Finding",
    "InputProfile",
    "Isolated",
    "LayerProfile",
    "OutlierLine",
    "Profile",
    "WeightProfile",
    "profile",
    "remedies",
]
