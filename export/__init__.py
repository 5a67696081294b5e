"""Turn a calibrated graph into QDQ ONNX and lower it to each target."""
