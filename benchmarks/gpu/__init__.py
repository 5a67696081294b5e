"""One unattended measurement on a GPU: ``prepare`` packs a run, ``measure`` needs little more than NumPy there."""
