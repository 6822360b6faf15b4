"""Differences between arrays, and how large they may be."""

import numpy as np
from numpy.typing import ArrayLike

LOGITS = 5e-5  # the absolute tolerance of float32 activations and logits
RELATIVE = 1e-5  # the relative tolerance of losses and gradients
EXACT = 0.0  # the tolerance of tokens, masks and text
GREY = 1.0 + 1e-3  # the tolerance of pixels, in grey levels of 255: rounding one way or the other


def diff(got: ArrayLike, want: ArrayLike) -> float:
    """Returns the largest absolute difference; infinity if the shapes differ or one is NaN."""
    a, b = np.asarray(got), np.asarray(want)
    if a.shape != b.shape:
        return float("inf")
    largest = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))
    return largest if largest == largest else float("inf")


def rel(got: ArrayLike, want: ArrayLike) -> float:
    """Returns the largest difference, relative to the largest expected value."""
    return diff(got, want) / max(float(np.abs(np.asarray(want)).max(initial=0.0)), 1e-30)


def count_wrong(got: ArrayLike, want: ArrayLike) -> int:
    """Returns how many items of two sequences differ; those that only one has count too."""
    a, b = np.asarray(got).ravel(), np.asarray(want).ravel()
    n = min(len(a), len(b))
    return int((a[:n] != b[:n]).sum()) + max(len(a), len(b)) - n
