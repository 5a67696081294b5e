"""Tune a calibrated graph: weights, biases and grids, from what the quantized layers really read."""
