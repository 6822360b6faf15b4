"""Reads and writes checkpoints in every format that pgjax supports."""
