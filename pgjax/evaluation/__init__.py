"""Evaluation: runs examples through a model, scores and stores its answers, and reports on them."""
