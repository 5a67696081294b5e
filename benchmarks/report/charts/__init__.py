"""The drawings of the page as Vega-Lite, each left out when nothing was measured for it."""

from benchmarks.report.charts.all import ChartGroup, chart_groups
from benchmarks.report.charts.spec import Chart

__all__ = ["Chart", "ChartGroup", "chart_groups"]
