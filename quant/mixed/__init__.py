"""Mixed precision: how much each layer suffers at each width, and which width each layer gets in a budget."""
