"""The same calibration written at several widths."""

from collections.abc import Iterable, Mapping

from quant.calibrated import CalibratedGraph
from quant.mixed.groups import Group
from quant.mixed.settings import FLOAT
from quant.placement import Site
from quant.qparams import QParams

__all__ = ["Formats"]


class Formats:
    """Switches the fake-quant layers of a calibrated graph between widths."""

    def __init__(self, calibrated: CalibratedGraph, groups: Iterable[Group], bits: Iterable[int]) -> None:
        """Freeze every site of the groups at every width, and all other sites as the recipe says.

        Args:
            calibrated: its fake-quant layers are changed.
            groups: all groups of the graph.
            bits: the widths that will be asked for.
        """
        self._sites = {group.name: group.sites for group in groups}
        grouped = {site.name for sites in self._sites.values() for site in sites}
        self._rest = [site for site in calibrated.sites if site.name not in grouped]
        widths = [b for b in dict.fromkeys(bits) if b != FLOAT]
        self._frozen: dict[tuple[str, int], QParams] = {}
        for site in (site for sites in self._sites.values() for site in sites):
            for b in widths:
                self._frozen[site.name, b] = site.quantizer.freeze(site.spec.model_copy(update={"bits": b}))
        for site in self._rest:
            site.quantizer.freeze()
        self.all_float()

    def qparams(self, site: Site, bits: int) -> QParams | None:
        """The site's parameters at a width, None for float."""
        return None if bits == FLOAT else self._frozen[site.name, bits]

    def set_group(self, group: str, bits: int) -> None:
        """Quantize one group at a width."""
        for site in self._sites[group]:
            qparams = self.qparams(site, bits)
            if qparams is None:
                site.quantizer.off()
            else:
                site.quantizer.set_qparams(qparams)
                site.quantizer.quantize()

    def set_all(self, plan: Mapping[str, int]) -> None:
        """Quantize the whole graph, every group at its width of the plan."""
        for group in self._sites:
            self.set_group(group, plan[group])
        for site in self._rest:
            site.quantizer.quantize()

    def all_float(self) -> None:
        """Quantize nothing."""
        for site in (*self._rest, *(site for sites in self._sites.values() for site in sites)):
            site.quantizer.off()
