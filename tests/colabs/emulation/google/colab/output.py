"""Colab's own way to draw, which JAX imports where `google.colab` is there."""
