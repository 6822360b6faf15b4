"""Finds the largest batch that fits into memory, with few compilations."""

from collections.abc import Callable, Mapping

_COMPILATIONS = 5  # the most batches that are compiled
_REACH = 8  # the line through two batches is followed up to this multiple of the larger one


def largest_batch(
    peak: Callable[[int], int], known: Mapping[int, int], each: int, usable: int
) -> int:
    """Returns the largest batch whose peak is at most `usable`, or 0 if no batch fits.

    The peak is nearly linear in the batch, because activations grow with the batch and parameters
    do not depend on it. A line through two known batches therefore says which batch to compile
    next. The peak of small batches hardly grows, because there it is reached by the gradients; so
    the second batch is well above the first, and the line is not followed too far.

    Args:
      peak: returns the bytes that a batch needs; each call is a compilation.
      known: the bytes that at least one batch is known to need, by batch.
      each: the number that divides every batch.
      usable: the bytes that a batch may need.
    """
    peaks = dict(known)
    for _ in range(_COMPILATIONS):
        fits = max((b for b, p in peaks.items() if p <= usable), default=0)
        over = min((b for b, p in peaks.items() if p > usable), default=None)
        if over is not None and over - fits <= each:
            break
        guess = _guess(peaks, usable)
        if over is not None:
            # The line lies above the peaks. Where it leads no further, a wide gap is halved.
            guess = (fits + over) // 2 if guess < fits + each and over >= 2 * fits else guess
            guess = min(max(guess, fits), over - each)
        guess = max(each, guess // each * each)
        if guess in peaks or 0 < guess - fits <= fits // 50:
            break  # by the line, the next batch is too large or not worth a compilation
        peaks[guess] = peak(guess)
    return max((b for b, p in peaks.items() if p <= usable), default=0)


def _guess(peaks: Mapping[int, int], usable: int) -> int:
    """Returns the batch at which the line through the two batches nearest to the limit meets it."""
    if len(peaks) < 2:
        ((batch, peak),) = peaks.items()
        return (4 if peak <= usable / 2 else 2) * batch if peak <= usable else batch // 2
    near = sorted(peaks.items(), key=lambda x: (abs(x[1] - usable), -x[0]))
    fits = max((x for x in near if x[1] <= usable), default=None)
    over = min((x for x in near if x[1] > usable), default=None)
    (a, p), (b, q) = (fits, over) if fits and over else near[:2]
    slope = (q - p) / (b - a)
    most = _REACH * max(a, b)
    return min(most, int(a + (usable - p) / slope)) if slope > 0 else most
