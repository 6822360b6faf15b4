"""Kaggle's client, which finds files in the folder that EMULATED_KAGGLE names."""

import os
import pathlib


def model_download(handle, path=None):
    """Returns the path of a file of a model, or of the folder of all, to who has keys."""
    if (os.environ["KAGGLE_USERNAME"], os.environ["KAGGLE_KEY"]) != ("me", "good"):
        raise OSError(f"403 Client Error: {handle} asks for consent")
    return str(pathlib.Path(os.environ["EMULATED_KAGGLE"], handle, path or ""))
