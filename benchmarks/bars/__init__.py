"""The figures that the product promises, measured: ``python -m benchmarks.bars``."""
