"""Registers what a configuration names: the source ``mec_states`` and the analysis ``mec_gates``."""

from examples.mec import analysis, states

__all__ = ["analysis", "states"]
