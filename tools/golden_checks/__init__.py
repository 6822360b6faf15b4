"""The groups of `check_golden.py`: each yields (what, difference, tolerance)."""
