"""Adapters with which evaluation harnesses of others, lmms-eval and VLMEvalKit, drive a model."""
