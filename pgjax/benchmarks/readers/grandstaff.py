"""GrandStaff: systems of piano music, engraved, with the notes in **kern."""

import re
from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader

_NOTATIONS = (".krn", ".ekrn", ".bekrn")


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields the scores of a list, of `train` once more as worn copies, where these are there."""
    part = {"validation": "val"}.get(split, split)
    if tables := files.glob(f"{part}-*.parquet"):
        rows = (row for table in tables for row in files.parquet(table, later=("image",)))
        for i, row in enumerate(rows):
            notes = plain_kern(row["transcription"])
            yield {"image": row["image"], "image_id": f"{part}/{i}", "answers": [notes]}
        return
    for line in files.lines(f"partitions_grandstaff/types/{part}.txt"):
        stem = line.strip().rpartition(".")[0]
        short = stem.removeprefix("grandstaff_dataset/")
        notes = files.first(*(name + end for name in (stem, short) for end in _NOTATIONS))
        worn = files.first(f"{stem}_distorted.jpg", f"{short}_distorted.jpg")
        example = {
            "image": files.first(f"{stem}.jpg", f"{short}.jpg"),
            "image_id": short,
            "answers": [plain_kern(files.text(notes))],
        }
        yield example
        if split == "train" and worn:
            yield {**example, "image": worn, "image_id": f"{short}_distorted"}


def plain_kern(text: str) -> str:
    """Makes **kern what scores are compared in.

    Bar numbers, which the image does not show, are left out, and so are the separators and the
    names of the notations ekern and bekern.
    """
    text = re.sub(r"\*\*b?ekern(_\d\.\d)?", "**kern", text.replace("\r", ""))
    return re.sub(r"(?<==)\d+", "", re.sub("[·@]", "", text)).strip("\n ")


READER = Reader(
    about="GrandStaff: images of piano music, and their notes in **kern "
    "(doi:10.1007/s10032-023-00432-z).",
    where="""\
https://grfia.dlsi.ua.es/sheet-music-transformer: GrandStaff, with the lists
partitions_grandstaff/types/train.txt, val.txt and test.txt, whose lines name files of
grandstaff_dataset, such as grandstaff_dataset/chopin/preludes/prelude28-17/original_m-88-91.krn;
the images of worn copies (…_distorted.jpg) are trained on too. Or, without these, the tables of
https://huggingface.co/datasets/antoniorv6/grandstaff: train-00000-of-…parquet, val-…, test-….""",
    licence="as stated on the page: for research; the music is in the public domain.",
    key="image_id",
    features={"image": IMAGE, "image_id": str, "answers": [str]},
    splits={"train": None, "validation": None, "test": None},
    read=read,
)
