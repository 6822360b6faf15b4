"""TextVQA and TextCaps: questions about text in photographs, and captions with it."""

import io
from collections.abc import Iterator

from PIL import Image

from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.reader import IMAGE, Example, Reader, clean_space, grouped
from pgjax.data.decode import decode_image

_ROTATIONS = ("train-images-boxable-with-rotation.csv", "test-images-with-rotation.csv")
_IMAGES = "https://textvqa.org/textvqa/download-dataset/: train_val_images.zip, test_images.zip"
_LICENCE = "CC BY 4.0 (annotations); CC BY 2.0 as listed by Open Images (images)."


def _image(files: Files, image_id: str):
    return files[f"{image_id}.jpg"]


def read_questions(files: Files, split: str) -> Iterator[Example]:
    """Yields questions, with the angle by which Open Images says that the image is turned."""
    rotations = files.csv(_ROTATIONS[split == "test"])
    turned = {
        row["ImageID"]: int(float(row["Rotation"]))
        for row in rotations
        if row["Rotation"] not in ("", "nan")
    }
    for row in files.rows(f"TextVQA_0.5.1_{split.replace('validation', 'val')}.json", "data"):
        yield {
            "image": _image(files, row["image_id"]),
            "image_id": row["image_id"],
            "question_id": row["question_id"],
            "question": row["question"],
            "rotation": turned.get(row["image_id"], 0),
            "answers": row.get("answers", []),
        }


def upright(example: Example) -> Example:
    """Turns an image upright, counterclockwise."""
    degrees = example.pop("rotation")
    if degrees:
        picture = Image.fromarray(decode_image(example["image"].read())).rotate(
            degrees, expand=True
        )
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=100)
        example["image"] = out.getvalue()
    return example


def read_captions(files: Files, split: str) -> Iterator[Example]:
    """Yields images with their captions, which the file has one by one; `test` has none."""
    data = files.rows(f"TextCaps_0.1_{split.replace('validation', 'val')}.json", "data")
    for image_id, rows in grouped(data, "image_id").items():
        captions = [row["caption_str"] for row in rows if row.get("caption_str")]
        yield {
            "image": _image(files, image_id),
            "image_id": image_id,
            "answers": [clean_space(caption) for caption in captions],
        }


QUESTIONS = Reader(
    about="TextVQA: questions about text in photographs, ten answers each (arXiv:1904.08920).",
    where=f"""\
{_IMAGES}, and
TextVQA_0.5.1_train.json, _val.json, _test.json; https://storage.googleapis.com/openimages/2018_04/:
train/{_ROTATIONS[0]} and
test/{_ROTATIONS[1]}, since some images are turned.""",
    licence=_LICENCE,
    key="question_id",
    features={
        "image": IMAGE, "image_id": str, "question_id": int, "question": str, "answers": [str],
    },
    splits={"train": 34_602, "validation": 5_000, "test": 5_734},
    read=read_questions,
    build=upright,
)  # fmt: skip

CAPTIONS = Reader(
    about="TextCaps: captions of photographs with text (arXiv:2003.12462).",
    where=f"""\
https://textvqa.org/textcaps/dataset/: TextCaps_0.1_train.json, _val.json, _test.json;
{_IMAGES}.""",
    licence=_LICENCE,
    key="image_id",
    features={"image": IMAGE, "image_id": str, "answers": [str]},
    splits={"train": 21_953, "validation": 3_166, "test": 3_289},
    read=read_captions,
)
