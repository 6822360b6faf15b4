"""How the time of a function grows with the length of its input."""

import time


def growth(function, make, size):
    """How many times more processor time an input of twice the length takes: 2 if it is linear.

    Args:
      function: what is measured, on one argument.
      make: returns the input of a length.
      size: the length; it should take at least some milliseconds.
    """

    def seconds(argument):
        start = time.process_time()
        function(argument)
        return time.process_time() - start

    short, long = make(size), make(2 * size)
    return min(seconds(long) for _ in range(4)) / max(min(seconds(short) for _ in range(4)), 2e-3)
