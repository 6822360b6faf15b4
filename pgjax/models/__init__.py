"""Flax modules with the parameter names and shapes of the released files."""
