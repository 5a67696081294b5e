"""Write down and draw a profile: a quantized model against its float reference, layer by layer."""
