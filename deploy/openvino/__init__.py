"""OpenVINO: how a model is compiled (``build``) and how it is run (``run``)."""
