"""Autoregressive generation, given a model's prefill and extend functions."""
