"""Answering with a model: a run's parts opened from its config, and batches of prompts decoded."""
