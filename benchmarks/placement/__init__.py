"""Which layers to quantize on a target, from measurements on it."""
