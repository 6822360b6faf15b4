"""MaRVL: NLVR2's task in five languages, with photographs of their cultures."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader


def read(files: Files, split: str) -> Iterator[Example]:
    """Reads JSON lines with true and false, which become the answers of NLVR2."""
    language = split.partition("_")[2]
    for row in files.jsonl(f"marvl-{language}.jsonl"):
        folder = f"{language}/images/{row['concept']}"
        yield {
            "image": [files[f"{folder}/{row[side]}"] for side in ("left_img", "right_img")],
            "question_id": row["id"],
            "question": row["caption"],
            "language": language,
            "concept": row["concept"],
            "answers": [str(row["label"])],
        }


READER = Reader(
    about="MaRVL: NLVR2's task in five languages and cultures (arXiv:2109.13238).",
    where="""\
https://marvl-challenge.github.io/download: marvl_data.zip or what it holds (annotations as
marvl-id.jsonl, …; images as id/images/CONCEPT/FILE.jpg).""",
    licence="CC BY 4.0 (sentences); the images are their owners', for research.",
    key="question_id",
    features={
        "image": [IMAGE], "question_id": str, "question": str, "language": str, "concept": str,
        "answers": [str],
    },
    splits={
        "test_id": 1_128, "test_sw": 1_108, "test_ta": 1_242, "test_tr": 1_180, "test_zh": 1_012,
    },
    read=read,
)  # fmt: skip
