"""SciCap: figures of papers with the first sentence of their captions."""

import json
from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader
from pgjax.errors import DataError

_CAPTION = "1-lowercase-and-token-and-remove-figure-index"
_LIST = "List-of-Files-for-Each-Experiments/First-Sentence/No-Subfig"


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields figures without subfigures; each caption is a file of its own, read in `build`."""
    part = split.replace("validation", "val")
    for name in files.rows(f"{_LIST}/{part}/file_idx.json", of_text=True):
        stem = name.removesuffix(".png")
        yield {
            "image": files[f"SciCap-No-Subfig-Img/{part}/{name}"],
            "image_id": stem,
            "caption": files[f"SciCap-Caption-All/{part}/{stem}.json"],
        }


def build(example: Example) -> Example:
    """Takes the caption in lower case, tokenized, without the figure's number."""
    member = example.pop("caption")
    try:
        found = json.loads(member.read())[_CAPTION]["caption"]
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(f"{member.name} is not as published ({type(e).__name__}: {e})") from None
    return {**example, "answers": [found]}


READER = Reader(
    about="SciCap: captions of scientific figures (arXiv:2110.11624).",
    where="https://github.com/tingyaohsu/SciCap: scicap_data.zip, as it is or unpacked.",
    licence="CC BY-NC-SA 4.0.",
    key="image_id",
    features={"image": IMAGE, "image_id": str, "answers": [str]},
    splits={"train": 106_834, "validation": 13_354, "test": 13_355},
    read=read,
    build=build,
)
