"""Inference: opens a checkpoint as a `Model`, which generates text and finds objects in images."""
