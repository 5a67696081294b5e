"""Many engines at once: models × variants × profiles, from one file."""
