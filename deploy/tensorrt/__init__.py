"""TensorRT and TensorRT-RTX: what they take, and engines built, kept and run."""
