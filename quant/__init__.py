"""Capture a PyTorch model as a graph, place fake-quant layers in it and calibrate them."""
