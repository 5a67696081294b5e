"""What other tools make of a run's float model, judged by our harness: ``python -m benchmarks.peers RUN``."""
