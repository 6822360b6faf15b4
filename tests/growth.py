"""How the time of a function grows with the length of its input."""

import time


def grows_linearly(function, make, size):
    """Whether eight times the length takes less than 24 times the processor time.

    Linear functions take 8 times as long and quadratic ones 64 times, so that neither a busy
    machine nor its caches can turn one into the other.

    Args:
      function: what is measured, on one argument.
      make: returns the input of a length.
      size: the shorter length; it should take some tenths of a millisecond at least.
    """

    def seconds(argument):
        start = time.process_time()
        function(argument)
        return time.process_time() - start

    short, long = make(size), make(8 * size)
    return min(seconds(long) for _ in range(3)) < 24 * max(
        min(seconds(short) for _ in range(5)), 5e-4
    )
