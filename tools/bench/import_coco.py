"""Imports a COCO file of the size of COCO's own training set; prints seconds and peak memory.

    python tools/bench/import_coco.py [--images 118000] [--folder DIR]

The annotations are synthetic: 7.3 objects per image in 80 categories, with polygons of 24 points,
as in `instances_train2017.json`. Images are hard links to a few JPEGs.
"""

import argparse
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time

from PIL import Image

SIZE = (640, 480)
OBJECTS, POINTS, CATEGORIES = 7.3, 24, 80
LINKS = 10_000  # file systems allow few to one file


def write(folder: pathlib.Path, count: int) -> pathlib.Path:
    """Writes the images and `instances.json`; returns its path."""
    photos = folder / "photos"
    photos.mkdir()
    picture = Image.effect_noise(SIZE, 40).convert("RGB")
    draw = random.Random(0)
    path, objects = folder / "instances.json", 0
    with path.open("w") as f:
        f.write('{"info": {"year": 2026}, "licenses": [], "images": [')
        for i in range(count):
            name = f"{i:012}.jpg"
            if i % LINKS == 0:
                linked = photos / name
                picture.save(linked)
            else:
                os.link(linked, photos / name)
            image = {"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]}
            f.write(("," if i else "") + json.dumps({**image, "coco_url": f"http://x/{name}"}))
        f.write('], "annotations": [')
        while objects < count * OBJECTS:
            x, y = draw.uniform(0, 500), draw.uniform(0, 380)
            w, h = draw.uniform(2, 140), draw.uniform(2, 100)
            polygon = [
                round(v, 2)
                for _ in range(POINTS)
                for v in (x + draw.random() * w, y + draw.random() * h)
            ]
            annotation = {
                "segmentation": [polygon], "area": round(w * h, 3), "iscrowd": 0,
                "image_id": draw.randrange(count), "category_id": draw.randrange(CATEGORIES),
                "bbox": [round(v, 2) for v in (x, y, w, h)], "id": objects,
            }  # fmt: skip
            f.write(("," if objects else "") + json.dumps(annotation))
            objects += 1
        names = [{"id": i, "name": f"name {i}"} for i in range(CATEGORIES)]
        f.write(f'], "categories": {json.dumps(names)}}}')
    return path


def measure(path: pathlib.Path) -> tuple[float, float, float, str]:
    """Runs make-jsonl; returns seconds, those of the processor, peak MiB, and what it printed."""
    out = path.with_name("out.jsonl")
    args = ["make-jsonl", path, "--images", path.with_name("photos"), "--out", out]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "pgjax", *map(str, args)], check=True, capture_output=True, text=True
    )
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, done.stdout


def main() -> None:
    """Writes the files, imports them, and prints a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--folder", help="where the files are written, on a disk with 1 GB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = write(pathlib.Path(folder), options.images)
        seconds, busy, peak, said = measure(path)
        print(said.strip())
        print(
            f"{options.images:,} images, {path.stat().st_size / 1e6:.0f} MB of JSON: "
            f"{seconds:.0f} s ({busy:.0f} s of one core), peak {peak:.0f} MiB"
        )


if __name__ == "__main__":
    main()
