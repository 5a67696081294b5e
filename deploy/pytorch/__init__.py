"""PyTorch itself: the model before it is exported (``build``) and how it is run (``run``)."""
