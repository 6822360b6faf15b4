"""GQA: questions generated from scene graphs; xGQA: the same in eight languages."""

from collections.abc import Iterator

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader

LANGUAGES = ("bn", "de", "en", "id", "ko", "pt", "ru", "zh")
_IMAGES = "https://downloads.cs.stanford.edu/nlp/data/gqa/images.zip."
_LICENCE = "CC BY 4.0 (questions); the images are those of Visual Genome, CC BY 4.0."


def _examples(files: Files, name: str, **more: str) -> Iterator[Example]:
    for key, row in files.entries(name):
        yield {
            "image": files[f"images/{row['imageId']}.jpg"],
            "image_id": row["imageId"],
            "question_id": key,
            "question": row["question"],
            "answers": [row["answer"]] if "answer" in row else [],
            **more,
        }


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields the balanced questions."""
    yield from _examples(files, f"{split}_balanced_questions.json")


def read_x(files: Files, split: str) -> Iterator[Example]:
    """Yields the questions of testdev in other languages, with English answers."""
    language = split.partition("_")[2]
    name = f"testdev_balanced_questions_{language}.json"
    yield from _examples(files, name, language=language)


_FEATURES = {
    "image": IMAGE, "image_id": str, "question_id": str, "question": str, "answers": [str],
}  # fmt: skip

GQA = Reader(
    about="GQA: questions about scenes, composed from their graphs (arXiv:1902.09506).",
    where=f"""\
https://cs.stanford.edu/people/dorarad/gqa/download.html: questions1.2.zip, and
{_IMAGES}""",
    licence=_LICENCE,
    key="question_id",
    features=_FEATURES,
    splits={"train": 943_000, "val": 132_062, "testdev": 12_578},
    read=read,
)

XGQA = Reader(
    about="xGQA: the questions of GQA in eight languages (arXiv:2109.06082).",
    where=f"""\
https://github.com/e-bug/iglue, folder datasets/xGQA/annotations/zero_shot:
testdev_balanced_questions_bn.json and the others, and
{_IMAGES}""",
    licence=_LICENCE,
    key="question_id",
    features={**_FEATURES, "language": str},
    splits={f"testdev_{language}": 12_578 for language in LANGUAGES},
    read=read_x,
)
