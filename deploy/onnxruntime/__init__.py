"""ONNX Runtime: how a session is built (``build``) and how it is run (``run``)."""
