"""What else is made of a run's results: tables and drawings, by functions that a configuration names."""
