"""Does the exported model compute what the fake-quant model computes?"""

from export.parity.check import check_parity
from export.parity.report import EndToEnd, LayerParity, ParityReport

__all__ = ["EndToEnd", "LayerParity", "ParityReport", "check_parity"]
