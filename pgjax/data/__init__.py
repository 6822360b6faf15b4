"""Data sources, preprocessing ops and the loader; they need numpy and Pillow, but not jax."""
