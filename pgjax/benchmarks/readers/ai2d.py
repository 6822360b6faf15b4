"""AI2D: multiple-choice questions about diagrams, whose labels may be replaced by letters."""

import io
from collections.abc import Iterator

from PIL import Image, ImageDraw, ImageFont

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader
from pgjax.data.decode import decode_image
from pgjax.errors import UserError

_LARGEST = 100  # font size, in pixels


def read(files: Files, split: str) -> Iterator[Example]:
    """Reads a file of questions per diagram; ai2d_test_ids.csv lists the test split."""
    held_out = set(files.text("ai2d_test_ids.csv").split())
    members = files.glob("questions/*.json")
    if not members:
        raise UserError(f"{files.source} has no questions/*.json; --help says where to get them.")
    for member in members:
        name = member.name.rpartition("/")[2]
        if (name.partition(".")[0] in held_out) != (split == "test"):
            continue
        content = files.json(member)
        labels = None
        for question, row in files.entries(member, "questions"):
            if row["abcLabel"] and labels is None:
                labels = list(files.json(f"annotations/{name}")["text"].values())
            shown = labels or [] if row["abcLabel"] else []
            yield {
                "image": files[f"images/{content['imageName']}"],
                "question_id": row["questionId"],
                "question": question,
                "choices": row["answerTexts"],
                "label_boxes": [
                    [*label["rectangle"][0], *label["rectangle"][1]] for label in shown
                ],
                "label_texts": [label["replacementText"] for label in shown],
                "answers": [row["answerTexts"][int(row["correctAnswer"])]],
            }


def build(example: Example) -> Example:
    """Paints the letters that a question refers to over the labels of the diagram."""
    boxes, texts = example.pop("label_boxes"), example.pop("label_texts")
    if not boxes:
        return example
    picture = Image.fromarray(decode_image(example["image"].read()))
    draw = ImageDraw.Draw(picture)
    for (x0, y0, x1, y1), text in zip(boxes, texts, strict=True):
        (x0, x1), (y0, y1) = sorted((x0, x1)), sorted((y0, y1))
        draw.rectangle((x0, y0, x1, y1), fill="white")
        font = _fitting(text, x1 - x0, y1 - y0)
        left = x0 + (x1 - x0 - font.getbbox(text)[2]) // 2
        draw.text((left, y0), text, "black", font)
    out = io.BytesIO()
    picture.save(out, "PNG")
    return {**example, "image": out.getvalue()}


def _fitting(
    text: str, width: float, height: float
) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Finds the largest size at which a text fits, of the font that comes with Pillow.

    The released model saw DM Sans.
    """
    size = _LARGEST
    while True:
        font = ImageFont.load_default(size)
        _, _, right, bottom = font.getbbox(text)
        if size == 2 or (right <= width and bottom <= height):
            return font
        size -= 1


READER = Reader(
    about="AI2D: multiple-choice questions about diagrams (arXiv:1603.07396).",
    where="""\
https://prior.allenai.org/projects/diagram-understanding: ai2d-all.zip, and ai2d_test_ids.csv.""",
    licence="CC BY-SA 4.0.",
    key="question_id",
    features={
        "image": IMAGE, "question_id": str, "question": str, "choices": [str], "answers": [str],
    },
    splits={"train": 12_413, "test": 3_088},
    read=read,
    build=build,
)  # fmt: skip
