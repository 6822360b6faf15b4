"""Readers of annotations as other programs store them, for `pgjax make-jsonl`."""
