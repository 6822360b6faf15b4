"""The parts of `tools/bench/device.py`."""
