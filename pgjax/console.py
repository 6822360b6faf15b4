"""Output of commands, which only the first process of a run prints, and formats of quantities."""

import math
import sys
import time
from collections.abc import Sequence

import jax
from tqdm import tqdm


def say(text: str) -> None:
    """Prints a line, in the first process of a run only."""
    if jax.process_index() == 0:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()


class Phase:
    """Prints when a phase begins and how long it took: `with Phase("compiling"):`."""

    def __init__(self, name: str) -> None:
        """Takes the name of the phase, such as `compiling`."""
        self.name = name
        self._start = 0.0

    def __enter__(self) -> None:
        """Prints that the phase begins."""
        say(f"[{self.name}] …")
        self._start = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Prints how long the phase took, unless it failed."""
        if kind is None:
            say(f"[{self.name}] {time.perf_counter() - self._start:.1f} s")


def hms(seconds: float) -> str:
    """Formats a time in seconds as h:mm:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def gib(size: float) -> str:
    """Formats a number of bytes in GiB, or in MiB if it is less than 0.01 GiB."""
    if not size:
        return "0"
    return f"{size / 2**30:.2f} GiB" if size >= 0.01 * 2**30 else f"{size / 2**20:.2f} MiB"


def si(value: float, unit: str) -> str:
    """Formats a value with three digits and a decimal prefix, such as `43.1 TFLOP`."""
    steps = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
    size, prefix = next((s for s in steps if abs(value) >= s[0]), (1.0, ""))
    scaled = value / size
    digits = max(0, 2 - math.floor(math.log10(abs(scaled)))) if scaled else 0
    return f"{scaled:.{digits}f} {prefix}{unit}"


def duration(seconds: float) -> str:
    """Formats a time in seconds as milliseconds, seconds, or h:mm:ss, as fits its length."""
    if seconds >= 60:
        return hms(seconds)
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats rows as left-aligned columns under a header."""
    widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows]
    head = "  ".join(c.ljust(w) for c, w in zip(header, widths, strict=True))
    return "\n".join([head.rstrip(), "-" * len(head), *(line.rstrip() for line in lines)])


def table_in_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats rows as a table in Markdown; `|` in a cell is escaped, line breaks are dropped."""
    lines = [header, ["---"] * len(header), *rows]
    cells = ([" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
