"""Measure accuracy, latency, memory and size, and report them side by side."""
