"""The largest batch that fits into memory, in few compilations."""

from collections.abc import Callable, Mapping

_MOST = 4  # compilations


def largest_batch(
    peak: Callable[[int], int], known: Mapping[int, int], each: int, usable: int
) -> int:
    """The largest batch whose peak is at most `usable`.

    A peak is nearly linear in the batch: parameters do not depend on it, and activations are its
    multiple. So a line through two batches says where to look, and what is found there is
    compiled before it is believed.

    Args:
      peak: bytes that a batch needs; each call is a compilation.
      known: those that are known already, one at least.
      each: what a batch must be a multiple of.
      usable: bytes.

    Returns:
      The batch; 0 where none fits.
    """
    found = dict(known)
    for _ in range(_MOST):
        fits = max((b for b, p in found.items() if p <= usable), default=0)
        over = min((b for b, p in found.items() if p > usable), default=None)
        if over is not None and over - fits <= each:
            break
        guess = _guess(found, each, usable)
        if over is not None:
            guess = min(max(guess, fits + each), over - each)
        guess = max(each, guess // each * each)
        if guess in found or 0 < guess - fits <= fits // 50:
            break  # the line says that the next one is too large, or not worth a compilation
        found[guess] = peak(guess)
    return max((b for b, p in found.items() if p <= usable), default=0)


def _guess(found: dict[int, int], each: int, usable: int) -> int:
    """Where the line through the two batches nearest to the limit meets it."""
    if len(found) < 2:
        ((batch, peak),) = found.items()
        return 2 * batch if peak <= usable else batch // 2
    (a, p), (b, q) = sorted(found.items(), key=lambda item: abs(item[1] - usable))[:2]
    slope = (q - p) / (b - a)
    return int(a + (usable - p) / slope) if slope > 0 else 2 * max(a, b)
