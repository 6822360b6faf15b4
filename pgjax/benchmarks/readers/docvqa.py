"""DocVQA and InfographicVQA: questions about scanned pages and about infographics."""

import itertools
from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files, Member
from pgjax.benchmarks.reader import IMAGE, Example, Reader

_SITE = "https://rrc.cvc.uab.es/?ch=17&com=downloads (with an account)"
_LICENCE = "as stated on the download page: for research; the pages are their owners'."
_MOST_SPANS = 6  # whose orders are spelled out; there are 720 of six


def _read(files: Files, member: Member, key: str) -> Iterator[Example]:
    for row in files.rows(member, "data"):
        yield {
            # The later archive has the pages without their folder, documents.
            "image": files.first(row[key], row[key].rpartition("/")[2]),
            "question_id": row["questionId"],
            "question": row["question"],
            "answers": row.get("answers", []),
        }


def read_pages(files: Files, split: str) -> Iterator[Example]:
    """Yields questions about pages, whose images are documents/NAME.png."""
    part = split.replace("validation", "val")
    member = files.first(f"{part}_v1.0_withQT.json", f"{part}_v1.0.json")
    yield from _read(files, member, "image")


def read_graphics(files: Files, split: str) -> Iterator[Example]:
    """Yields questions about infographics; a validation answer has its spans in any order."""
    part = split.replace("validation", "val")
    name = f"infographicsVQA_{part}_v1.0"
    member = files.first(f"{name}_withQT.json", f"{name}.json")
    for example in _read(files, member, "image_local_name"):
        if part == "val":
            example["answers"] = [order for a in example["answers"] for order in _orders(a)]
        yield example


def _orders(answer: str) -> list[str]:
    spans = answer.split(", ")
    if len(spans) > _MOST_SPANS:
        return [answer]
    return list(dict.fromkeys(", ".join(order) for order in itertools.permutations(spans)))


_FEATURES = {"image": IMAGE, "question_id": int, "question": str, "answers": [str]}

PAGES = Reader(
    about="DocVQA: questions about scanned pages (arXiv:2007.00398).",
    where=f"""\
{_SITE}: task 1,
train_v1.0_withQT.json, val_v1.0_withQT.json, test_v1.0.json, and spdocvqa_images.tar.gz.""",
    licence=_LICENCE,
    key="question_id",
    features=_FEATURES,
    splits={"train": 39_463, "validation": 5_349, "test": 5_188},
    read=read_pages,
)

GRAPHICS = Reader(
    about="InfographicVQA: questions about infographics (arXiv:2104.12756).",
    where=f"""\
{_SITE}: task 3,
infographicsVQA_train_v1.0.json, infographicsVQA_val_v1.0_withQT.json,
infographicsVQA_test_v1.0.json, and infographicsvqa_images.tar.gz.""",
    licence=_LICENCE,
    key="question_id",
    features=_FEATURES,
    splits={"train": 23_946, "validation": 2_801, "test": 3_288},
    read=read_graphics,
)
