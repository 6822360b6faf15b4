"""PubTabNet and FinTabNet: the structure, the contents and the places of cells of a table."""

import html
import io
import math
from array import array
from collections.abc import Iterator
from typing import Any

from PIL import Image

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import BOX, IMAGE, Example, Reader
from pgjax.data.decode import decode_image
from pgjax.data.importers.annotated import pixel_box
from pgjax.data.importers.orientation import read_header
from pgjax.errors import DataError

_FEATURES = {
    "image": IMAGE,
    "image_id": str,
    "answers": [str],  # HTML
    "boxes": [BOX],  # of the cells that have one
    "cells": [int],  # their numbers among all cells
}
_POINTS = 72  # to an inch


def read_pubtabnet(files: Files, split: str) -> Iterator[Example]:
    """Yields the tables of a split, which the one file of annotations names."""
    for row in files.jsonl("PubTabNet_2.0.0.jsonl"):
        if row["split"] == split:
            image = files[f"{split}/{row['filename']}"]
            yield {"image": image, "image_id": row["filename"], **_table(row["html"], split)}


def read_fintabnet(files: Files, split: str) -> Iterator[Example]:
    """Yields tables with the picture of their page, which has the name of the PDF."""
    for row in files.jsonl(f"FinTabNet_1.0.0_table_{split}.jsonl"):
        stem = row["filename"].removesuffix(".pdf")
        yield {
            "image": files.first(f"{stem}.png", f"{stem}.jpg"),
            "image_id": f"{stem}/{row['table_id']}",
            "place": [float(v) for v in row["bbox"]],
            **_table(row["html"], split),
        }


def _table(annotation: dict[str, Any], split: str) -> Example:
    """A table as HTML, and the places of its cells as published, in little memory."""
    parts, cells = ["<table>"], iter(annotation["cells"])
    numbers, places, count = array("i"), array("d"), 0
    for token in annotation["structure"]["tokens"]:
        parts.append(token)
        if token in ("<td>", ">"):
            cell = next(cells, None)
            if cell is None:
                raise DataError("the structure has more cells than the list of cells")
            # Characters are as they are, tags are whole tokens.
            parts += (html.escape(t, quote=False) if len(t) == 1 else t for t in cell["tokens"])
            if "bbox" in cell:
                x0, y0, x1, y1 = cell["bbox"]
                numbers.append(count)
                places.extend((x0, y0, x1, y1))
            count += 1
    if next(cells, None) is not None:
        raise DataError(f"the structure has {count} cells, and the list of cells has more")
    text = "".join([*parts, "</table>"])
    return {"answers": [text], "cells": numbers, "boxes": places, "strict": split == "train"}


def build_pubtabnet(example: Example) -> Example:
    """Makes boxes of places in pixels."""
    size = read_header(example["image"].read()).stored
    return _with_boxes(example, size, lambda x0, y0, x1, y1: (y0, x0, y1, x1))


def build_fintabnet(example: Example, *, dpi: int) -> Example:
    """Cuts the table out of its page, whose places are in points from the lower left corner."""
    page = decode_image(example["image"].read())
    scale, (height, width) = dpi / _POINTS, page.shape[:2]

    def down(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        return height - y1 * scale, x0 * scale, height - y0 * scale, x1 * scale

    y0, x0, y1, x1 = down(*example.pop("place"))
    top, left, bottom, right = math.floor(y0), math.floor(x0), math.ceil(y1), math.ceil(x1)
    if not (-1 <= top < bottom <= height + 1 and -1 <= left < right <= width + 1):
        raise DataError(
            f"the table is outside of its page, which has {width}x{height} pixels; pages must be "
            f"rendered at {dpi} dpi, see --dpi"
        )
    top, left = max(top, 0), max(left, 0)
    table = page[top : min(bottom, height), left : min(right, width)]
    out = io.BytesIO()
    Image.fromarray(table).save(out, "PNG")

    def inside(*place: float) -> tuple[float, float, float, float]:
        y0, x0, y1, x1 = down(*place)
        return y0 - top, x0 - left, y1 - top, x1 - left

    return _with_boxes({**example, "image": out.getvalue()}, table.shape[:2], inside)


def _with_boxes(example: Example, size: tuple[int, int], pixels: Any) -> Example:
    """The example with boxes in fractions of its image; those without area are left out.

    Raises:
      DataError: a box of a training example reaches out of the image, as in corrupted examples.
    """
    places, strict = example["boxes"], example.pop("strict")
    cells, boxes = [], []
    for i, number in enumerate(example["cells"]):
        y0, x0, y1, x1 = pixels(*places[4 * i : 4 * i + 4])
        if strict and (min(y0, x0) < -1 or y1 > size[0] + 1 or x1 > size[1] + 1):
            raise DataError(f"cell {number} reaches out of the image")
        try:
            boxes.append(list(pixel_box(y0, x0, y1, x1, size)))
        except DataError:
            continue
        cells.append(number)
    return {**example, "cells": cells, "boxes": boxes}


PUBTABNET = Reader(
    about="PubTabNet: tables of articles, as HTML (arXiv:1911.10683).",
    where="""\
https://huggingface.co/datasets/ajimeno/PubTabNet: pubtabnet.tar.gz (PubTabNet_2.0.0.jsonl, and
the folders train and val). Unpack the .jsonl: out of an archive it would be held in memory.
Of the test set no tables are published. Training examples whose cells reach out of the image are
left out.""",
    licence="CDLA-Permissive-1.0 (annotations); the images are of PubMed Central's open articles.",
    key="image_id",
    features=_FEATURES,
    splits={"train": None, "val": 9_115},
    read=read_pubtabnet,
    build=build_pubtabnet,
)

FINTABNET = Reader(
    about="FinTabNet: tables of annual reports, as HTML (arXiv:2005.00589).",
    where="""\
https://developer.ibm.com/exchanges/data/all/fintabnet: fintabnet.tar.gz
(FinTabNet_1.0.0_table_train.jsonl, …_val.jsonl, …_test.jsonl, and the folder pdf with a PDF of each
page). Render every page beside its PDF, as PNG or JPEG of the same name, and give the same --dpi:
    find pdf -name '*.pdf' -exec sh -c 'pdftoppm -r 144 -png -singlefile "$1" "${1%.pdf}"' _ {} \\;
PaliGemma 2's authors train on the corrected annotations of FinTabNet.c (arXiv:2303.00716), which
this does not read. Training examples whose cells reach out of the table are left out.""",
    licence="CDLA-Permissive-1.0 (annotations); the pages are their companies'.",
    key="image_id",
    features=_FEATURES,
    splits={"train": None, "val": None, "test": None},
    read=read_fintabnet,
    build=build_fintabnet,
    options={"dpi": 144},
)
