"""What runs in a peer's own environment; each file is started as a script."""
