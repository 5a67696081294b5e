"""Measuring in fresh processes: what runs in one (``worker``, ``backends``) and who gives it orders."""
