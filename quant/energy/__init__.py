"""What inference costs in energy: the operations, the memory traffic, and the choices that save either."""
