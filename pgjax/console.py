"""What command lines tell people, once per run, whatever the number of processes."""

import sys
import time
from collections.abc import Sequence

import jax
from tqdm import tqdm


def say(text: str) -> None:
    """Prints a line once per run, whatever the number of processes."""
    if jax.process_index() == 0:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()


class Phase:
    """Announces a phase and how long it took: `with Phase("compiling"):`."""

    def __init__(self, name: str):
        """Nothing is said before the phase begins."""
        self.name = name

    def __enter__(self) -> None:
        """Says that it begins."""
        say(f"[{self.name}] …")
        self.start = time.perf_counter()

    def __exit__(self, kind, *_) -> None:
        """Says that it ended, unless it failed."""
        if kind is None:
            say(f"[{self.name}] {time.perf_counter() - self.start:.1f} s")


def hms(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def gib(size: float) -> str:
    """Bytes as GiB, or as MiB where that is less than a hundredth."""
    if not size:
        return "0"
    return f"{size / 2**30:.2f} GiB" if size >= 0.01 * 2**30 else f"{size / 2**20:.2f} MiB"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns under a header."""
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
    head = "  ".join(c.ljust(w) for c, w in zip(header, widths, strict=True))
    return "\n".join([head.rstrip(), "-" * len(head), *(line.rstrip() for line in lines)])
