"""Colab's Secrets, from the environment variable EMULATED_SECRETS (JSON)."""

import json
import os


class SecretNotFoundError(Exception):
    """As Colab's, whose constructor takes the name."""


def get(key):
    """Returns a secret."""
    try:
        return json.loads(os.environ["EMULATED_SECRETS"])[key]
    except KeyError:
        raise SecretNotFoundError(key) from None
