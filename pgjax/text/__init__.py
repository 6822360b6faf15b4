"""Tokenizer, model inputs from text, and boxes as text; no arrays of a device."""
