"""Models: built from a name, given trained weights, paired with their preprocessing."""
