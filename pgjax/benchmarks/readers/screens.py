"""Screen2Words and Widget Captioning: what phone screens and their elements are for."""

import json
from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import BOX, IMAGE, Example, Reader, clean_space, grouped
from pgjax.data.decode import decode_image
from pgjax.errors import DataError

_CANVAS = 2560  # height in which RICO's bounds are given
_RICO = "http://www.interactionmining.org/rico.html: unique_uis.tar.gz (combined/*.jpg, *.json)."
_LICENCE = "CC BY 4.0 (captions); the screens are those of RICO, for research."


def read_screens(files: Files, split: str) -> Iterator[Example]:
    """Yields screens with their summaries, which screen_summaries.csv has one by one."""
    summaries = grouped(files.csv("screen_summaries.csv"), "screenId")
    for screen in files.text(f"split/{split}_screens.txt").split():
        yield {
            "image": files[f"{screen}.jpg"],
            "image_id": int(screen),
            "answers": [clean_space(row["summary"]) for row in summaries.get(screen, ())],
        }


def read_widgets(files: Files, split: str) -> Iterator[Example]:
    """Yields widgets, named by the path to their node in the screen's tree."""
    names = [f"{split}.txt", f"split/{split}.txt"]
    screens = set(files.text(files.first(*names)).split())
    for row in files.csv("widget_captions.csv"):
        screen, node = row["screenId"], row["nodeId"]
        if screen in screens:
            yield {
                "image": files[f"{screen}.jpg"],
                "tree": files[f"{screen}.json"],
                "image_id": f"{screen}_{node}",
                "node": node,
                "answers": [clean_space(caption) for caption in row["captions"].split("|")],
            }


def find_widget(example: Example) -> Example:
    """Finds a widget's box, in fractions of the screen."""
    tree, node = example.pop("tree"), example.pop("node")
    try:
        place = json.loads(tree.read())["activity"]["root"]
        for index in node.split(".")[1:]:
            place = place["children"][int(index)]
        x0, y0, x1, y1 = place["bounds"]
    except (ValueError, KeyError, TypeError, IndexError) as e:
        raise DataError(f"{tree.name} has no node {node} ({type(e).__name__}: {e})") from None
    height, width = decode_image(example["image"].read()).shape[:2]
    across = _CANVAS * width / height
    box = [y0 / _CANVAS, x0 / across, y1 / _CANVAS, x1 / across]
    return {**example, "boxes": [[min(max(v, 0.0), 1.0) for v in box]]}


SCREENS = Reader(
    about="Screen2Words: summaries of screens, five each (arXiv:2108.03353).",
    where=f"""\
https://github.com/google-research-datasets/screen2words: screen_summaries.csv, the folder split;
{_RICO}""",
    licence=_LICENCE,
    key="image_id",
    features={"image": IMAGE, "image_id": int, "answers": [str]},
    splits={"train": 15_743, "dev": 2_364, "test": 4_310},
    read=read_screens,
)

WIDGETS = Reader(
    about="Widget Captioning: captions of things on screens (arXiv:2010.04295).",
    where=f"""\
https://github.com/google-research-datasets/widget-caption: widget_captions.csv, and train.txt,
dev.txt and test.txt of the folder split;
{_RICO}""",
    licence=_LICENCE,
    key="image_id",
    features={"image": IMAGE, "image_id": str, "boxes": [BOX], "answers": [str]},
    # The paper's 61,285 include widgets on screens that its authors could not release.
    splits={"train": None, "dev": None, "test": None},
    read=read_widgets,
    build=find_widget,
)
