"""Checksums of a checkpoint's files, which say whether it is what was saved.

`checksums.txt` in a checkpoint's folder has one line per file, `DIGEST BYTES PATH`, between a first
line that names the format and a last one with the SHA-256 of all lines before it.

A file's digest is the SHA-256 of sums: of every MiB, the sum of its 64-bit words modulo 2^64. One
changed byte always changes such a sum, and other damage does with a probability of 1 - 2^-64. It
is taken at the speed of memory, several times that of a cryptographic checksum, so that a save
hardly takes longer.
"""

import concurrent.futures
import hashlib
import io
import pathlib
from collections.abc import Iterable

import numpy as np

CHECKSUMS_FILE = "checksums.txt"

_FORMAT = "pgjax checksums 1"
_BLOCK = 1 << 20  # bytes of one sum
_READ = 2 * _BLOCK  # bytes read at once, few enough to stay in the processor's cache
_THREADS = 4


def write_checksums(folder: pathlib.Path) -> None:
    """Writes the checksums of all files below a folder; the file appears complete or not at all.

    Raises:
      OSError: a file cannot be read, or the checksums not written.
    """
    paths = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != CHECKSUMS_FILE
    )
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        digests = pool.map(lambda path: _digest(folder / path), paths)
    lines = [_FORMAT, *(f"{d} {n} {p}" for (d, n), p in zip(digests, paths, strict=True))]
    part = folder / f"{CHECKSUMS_FILE}.part"
    part.write_text("".join(f"{line}\n" for line in [*lines, _seal(lines)]))
    part.replace(folder / CHECKSUMS_FILE)


def has_checksums(folder: pathlib.Path) -> bool:
    """Whether a checkpoint has checksums; those that pgjax saved before 0.2 have none."""
    return (folder / CHECKSUMS_FILE).exists()


def find_damage(
    folder: pathlib.Path, items: Iterable[str] | None = None, *, share: tuple[int, int] = (0, 1)
) -> str:
    """What of a checkpoint is not what was saved; "" where nothing is known to be.

    Args:
      folder: the checkpoint.
      items: its sub-folders to read; None for all. Files beside them are always read.
      share: `(k, n)` reads every n-th file from the k-th on, to divide the work by n processes.
    """
    try:
        text = (folder / CHECKSUMS_FILE).read_bytes().decode()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as e:
        return f"{CHECKSUMS_FILE} cannot be read ({e})"
    *lines, seal, end = text.split("\n") if text.count("\n") > 1 else ("", "", "")
    if seal != _seal(lines) or end or lines[0] != _FORMAT:
        return f"{CHECKSUMS_FILE} is damaged itself"
    wanted = None if items is None else set(items)
    entries = [line.split(" ", 2) for line in lines[1:]]
    chosen = [e for e in entries if wanted is None or "/" not in e[2] or _item(e[2]) in wanted]
    k, n = share
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda entry: _compare(folder, *entry), chosen[k::n])
    damaged = [text for text in found if text]
    more = f", and {len(damaged) - 3} more files" if len(damaged) > 3 else ""
    return "; ".join(damaged[:3]) + more


def _item(path: str) -> str:
    return path.partition("/")[0]


def _compare(folder: pathlib.Path, digest: str, size: str, path: str) -> str:
    try:
        found, count = _digest(folder / path)
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as e:
        return f"{path} cannot be read ({e.strerror})"
    if str(count) != size:
        return f"{path} has {count} bytes of {size}"
    return "" if found == digest else f"{path} has other bytes than were saved"


def _digest(path: pathlib.Path) -> tuple[str, int]:
    """The digest of a file, and its size in bytes."""
    total, sums = 0, []
    read = bytearray(_READ)
    words = np.frombuffer(read, "<u8").reshape(-1, _BLOCK // 8)
    with path.open("rb", buffering=0) as f:
        while count := _fill(f, read):
            total += count
            blocks = -(-count // _BLOCK)
            read[count : blocks * _BLOCK] = bytes(blocks * _BLOCK - count)
            sums.extend(words[:blocks].sum(axis=1, dtype=np.uint64))
    digest = hashlib.sha256(np.array(sums, "<u8").tobytes())
    return digest.hexdigest()[:32], total


def _fill(f: io.FileIO, read: bytearray) -> int:
    """Fills a buffer, except at the end of a file; returns the number of bytes."""
    view, count = memoryview(read), 0
    while count < len(read) and (part := f.readinto(view[count:])):
        count += part
    return count


def _seal(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
