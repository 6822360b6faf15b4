"""Parts of `tools/faults/fuzz.py`."""
