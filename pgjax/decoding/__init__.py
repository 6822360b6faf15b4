"""Autoregressive generation from a model's prefill and extend functions."""
