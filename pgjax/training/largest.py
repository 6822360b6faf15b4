"""The largest batch that fits into memory, in few compilations."""

from collections.abc import Callable, Mapping

_MOST = 5  # compilations
_REACH = 8  # times the largest known batch, past which a line is not believed


def largest_batch(
    peak: Callable[[int], int], known: Mapping[int, int], each: int, usable: int
) -> int:
    """The largest batch whose peak is at most `usable`.

    A peak is nearly linear in the batch: parameters do not depend on it, and activations are its
    multiple. So a line through two batches says where to look, and what is found there is
    compiled before it is believed. Small batches lie on a flat part, where the gradients are what
    takes most, so the second batch is well above the first, and the line is not followed too far.

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
        guess = _guess(found, usable)
        if over is not None:
            # A wide gap is halved where the line, which lies above the peaks, sees no way up.
            guess = (fits + over) // 2 if guess < fits + each and over >= 2 * fits else guess
            guess = min(max(guess, fits), over - each)
        guess = max(each, guess // each * each)
        if guess in found or 0 < guess - fits <= fits // 50:
            break  # the line says that the next one is too large, or not worth a compilation
        found[guess] = peak(guess)
    return max((b for b, p in found.items() if p <= usable), default=0)


def _guess(found: dict[int, int], usable: int) -> int:
    """Where the line through the two batches nearest to the limit meets it."""
    if len(found) < 2:
        ((batch, peak),) = found.items()
        return (4 if peak <= usable / 2 else 2) * batch if peak <= usable else batch // 2
    near = sorted(found.items(), key=lambda x: (abs(x[1] - usable), -x[0]))
    fits = max((x for x in near if x[1] <= usable), default=None)
    over = min((x for x in near if x[1] > usable), default=None)
    (a, p), (b, q) = (fits, over) if fits and over else near[:2]
    slope = (q - p) / (b - a)
    most = _REACH * max(a, b)
    return min(most, int(a + (usable - p) / slope)) if slope > 0 else most
