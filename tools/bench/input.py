"""Measures 224-pixel input examples per second and core, beside a plain loop over Pillow.

    python tools/bench/input.py [--images 64] [--workers 2]

Examples are JPEG photographs of 640 × 480 pixels. The plain loop opens, converts, resizes and
scales them; pgjax does the same by an op string, exactly, and approximately with `draft`. Both run
in one thread and take turns. Then the loader, which also tokenizes, runs in threads and in
processes.
"""

import argparse
import io
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np
from common import Row
from PIL import Image

from pgjax.data.jsonl import JsonlSource
from pgjax.data.loader import Part, TrainLoader
from pgjax.data.pipeline import Pipeline
from pgjax.text.tokenizer import Tokenizer

RES = 224
PHOTOS = pathlib.Path(__file__).parents[2] / "tests" / "photos"
OPS = f"decode{{}}|resize({RES}, antialias=True)|value_range(-1, 1)"


def photographs(count: int) -> list[bytes]:
    """Makes JPEGs of 640 × 480 pixels, different crops of real photographs."""
    rng, found = np.random.default_rng(0), []
    files = sorted(PHOTOS.glob("*.jpg"))
    for i in range(count):
        with Image.open(files[i % len(files)]) as image:
            picture = image.convert("RGB").resize((960, 720))
        x, y = int(rng.integers(0, 320)), int(rng.integers(0, 240))
        buffer = io.BytesIO()
        picture.crop((x, y, x + 640, y + 480)).save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def plain(data: bytes) -> np.ndarray:
    """Reads an image in the plain way, float32 [224, 224, 3] in -1..1."""
    with Image.open(io.BytesIO(data)) as image:
        small = image.convert("RGB").resize((RES, RES), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32) / 127.5 - 1.0


def rates(
    calls: dict[str, Callable[[bytes], object]], images: list[bytes], rounds: int
) -> dict[str, float]:
    """Returns examples per second of this thread's CPU time, as medians over rounds in turn."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(images[0])
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.thread_time()
            for data in images:
                call(data)
            found[name].append(len(images) / (time.thread_time() - start))
    return {name: float(np.median(values)) for name, values in found.items()}


def loader_rate(fname: pathlib.Path, workers: int, batches: int) -> float:
    """Returns examples per second of wall time, from file to batch."""
    tokenizer = Tokenizer.tiny()
    pipeline = Pipeline.parse(
        f"{OPS.format('')}|for_training(32)|keep('image', 'text', 'mask_ar', 'mask_loss')",
        tokenizer,
    )
    part = Part(JsonlSource(str(fname)), pipeline)
    loader = iter(TrainLoader([part], 32, seed=0, workers=workers, threads=max(1, 1 - workers)))
    for _ in range(8):  # Batches that are read ahead, and the start of workers, do not count.
        next(loader)
    start = time.perf_counter()
    for _ in range(batches):
        next(loader)
    return 32 * batches / (time.perf_counter() - start)


def table(count: int = 64, rounds: int = 5, workers: int = 2) -> list[Row]:
    """Measures everything, and returns the rows of the table."""
    images = photographs(count)
    exact = Pipeline.parse(OPS.format(""))
    draft = Pipeline.parse(OPS.format(f"(draft={RES})"))
    calls = {
        "a plain loop over Pillow": plain,
        "pgjax": lambda data: exact({"image": data}),
        f"pgjax, draft={RES}": lambda data: draft({"image": data}),
    }
    found = rates(calls, images, rounds)
    base = found["a plain loop over Pillow"]
    note = "640×480 JPEG to 224 px, of one core's time"
    rows = [Row(f"input, {name}", rate, "examples/s", note) for name, rate in found.items()]
    rows += [
        Row(f"input, {name}: over the plain loop's", rate / base, "×")
        for name, rate in list(found.items())[1:]
    ]
    with tempfile.TemporaryDirectory() as folder:
        fname = pathlib.Path(folder) / "photos.jsonl"
        lines = []
        for i, data in enumerate(images):
            (fname.parent / f"{i}.jpg").write_bytes(data)
            lines.append(f'{{"image": "{i}.jpg", "prefix": "caption en", "suffix": "a photo"}}\n')
        fname.write_text("".join(lines))
        for n in range(workers + 1):
            rate = loader_rate(fname, n, 48)
            where = f"{n} workers" if n else "threads of this process"
            rows.append(
                Row(f"input, loader, {where}", rate, "examples/s", f"{os.cpu_count()} cores")
            )
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64, help="the number of photographs")
    parser.add_argument("--rounds", type=int, default=5, help="the number of rounds")
    parser.add_argument("--workers", type=int, default=2, help="the loader's workers")
    args = parser.parse_args()
    for row in table(args.images, args.rounds, args.workers):
        print(row)


if __name__ == "__main__":
    main()
