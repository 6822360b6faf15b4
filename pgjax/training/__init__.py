"""Training: the optimizer, the training step and its plan, and the loop."""
