"""Writes drawn scenes as files, in two formats in which users have their own data."""

import json
import os
import pathlib

from PIL import Image

from pgjax.data.scenes import CELLS, COLORS, SceneSource

CAPTIONS_FILE, BOXES_FILE = "captions.jsonl", "instances.json"


def write_scenes(folder: str | os.PathLike, count: int, *, seed: int = 0) -> pathlib.Path:
    """Writes drawn scenes with captions and boxes, to try out commands that read files.

    Args:
      folder: for `0000.png`, … of 64 × 64 pixels, with their captions in `captions.jsonl`
        (`image`, `suffix`) and the boxes of the shapes in `instances.json`, COCO's format, where
        the category of a shape is its colour.
      count: number of scenes.
      seed: other seeds give other scenes.

    Returns:
      The folder.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = SceneSource("files", tasks=("caption",), max_shapes=2, seed=seed, num_examples=count)
    categories = {color: i for i, color in enumerate(COLORS, 1)}
    lines, images, annotations = [], [], []
    for i in range(count):
        example, shapes = source.draw(i)
        name, (height, width, _) = f"{i:04}.png", example["image"].shape
        Image.fromarray(example["image"]).save(folder / name)
        lines.append({"image": name, "suffix": example["suffix"]})
        images.append({"id": i, "file_name": name, "width": width, "height": height})
        for shape in shapes:
            y0, x0, y1, x1 = (v * width // CELLS for v in shape.box)
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": i,
                    "category_id": categories[shape.color],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                }
            )
    coco = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": color} for color, i in categories.items()],
    }
    (folder / CAPTIONS_FILE).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / BOXES_FILE).write_text(json.dumps(coco))
    return folder
