"""The checks of `check_golden.py`; each yields a name, a difference and a tolerance."""
