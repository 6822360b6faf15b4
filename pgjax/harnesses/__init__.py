"""Adapters with which evaluation harnesses of others, lmms-eval and VLMEvalKit, drive a model."""

from typing import Any


def manifest() -> Any:
    """What lmms-eval gets from the entry point; the model is imported when it is asked for."""
    from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]

    return ModelManifest("pgjax", simple_class_path="pgjax.harnesses.lmms_eval.Pgjax")
