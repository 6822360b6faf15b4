"""DOCCI: photographs with descriptions of a hundred words and more."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader, clean_space


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields the photographs of a split, each with its one description."""
    for row in files.jsonl("docci_descriptions.jsonlines"):
        if row["split"] == split:
            yield {
                "image": files[row["image_file"]],
                "image_id": row["example_id"],
                "answers": [clean_space(row["description"])],
            }


READER = Reader(
    about="DOCCI: long, detailed descriptions of photographs (arXiv:2404.19753).",
    where="""\
https://google.github.io/docci/#downloads: docci_descriptions.jsonlines, docci_images.tar.gz.""",
    licence="CC BY 4.0.",
    key="image_id",
    features={"image": IMAGE, "image_id": str, "answers": [str]},
    splits={"train": 9_647, "test": 5_000, "qual_dev": 100, "qual_test": 100},
    read=read,
)
