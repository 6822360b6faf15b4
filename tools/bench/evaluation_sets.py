"""Synthetic benchmarks in the layout and with the number of questions of the official files."""

import io
import itertools
import json
import pathlib
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image


class Case(NamedTuple):
    """A benchmark at its official size."""

    make: Callable[[pathlib.Path, int], None]
    split: str
    count: int
    config: str
    evaluation: str


def pictures(count: int, form: str = "JPEG", size: tuple[int, int] = (96, 72)) -> list[bytes]:
    """Makes small JPEGs of smooth noise, which all differ."""
    rng, out = np.random.default_rng(0), []
    for _ in range(count):
        pixels = rng.integers(0, 256, (6, 8, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(file, form)
        out.append(file.getvalue())
    return out


def write_images(path: pathlib.Path, names: list[str]) -> None:
    """Writes an archive of images, of which up to a thousand differ."""
    some = pictures(1000)
    with zipfile.ZipFile(path, "w") as archive:
        for i, name in enumerate(names):
            archive.writestr(name, some[i % len(some)])


def write_json(path: pathlib.Path, content: Any) -> None:
    """Writes a file of annotations."""
    path.write_text(json.dumps(content))


def question(rng: random.Random) -> str:
    """Draws a question of 3 to 12 words, as most real ones have."""
    thing, other = rng.choices(("circle", "square", "triangle", "star", "ring"), k=2)
    return rng.choice(
        (
            f"how many {thing}s are there?",
            f"what color is the {thing}?",
            f"is there a {thing}?",
            f"what color is the {thing} to the left of the small {other}?",
            f"are there more {thing}s than {other}s?",
        )
    )


def make_vqav2(folder: pathlib.Path, count: int) -> None:
    """Writes VQA v2: 214,354 questions about 40,504 images, with ten answers each."""
    rng = random.Random(0)
    images = range(1, max(2, count * 40_504 // 214_354) + 1)
    rows = [(images[i % len(images)], 1000 + i, question(rng)) for i in range(count)]
    kinds = {"how": "number", "is": "yes/no", "are": "yes/no", "what": "other"}
    answers = {
        "number": ("0", "1", "2", "3"), "yes/no": ("yes", "no"), "other": ("red", "blue", "green"),
    }  # fmt: skip
    questions, annotations = [], []
    for image, key, text in rows:
        kind = kinds[text.split()[0]]
        given = rng.choices(answers[kind], k=10)
        questions.append({"image_id": image, "question": text, "question_id": key})
        annotations.append(
            {
                "question_type": " ".join(text.split()[:2]),
                "multiple_choice_answer": given[0],
                "answers": [{"answer": a, "answer_id": n} for n, a in enumerate(given, 1)],
                "image_id": image, "answer_type": kind, "question_id": key,
            }
        )  # fmt: skip
    name = "v2_OpenEndedQuestions_mscoco_val2014_questions.json"
    write_json(folder / name, {"questions": questions})
    write_json(folder / "v2_mscoco_val2014_annotations.json", {"annotations": annotations})
    names = [f"val2014/COCO_val2014_{i:012}.jpg" for i in images]
    write_images(folder / "val2014.zip", names)


def make_rsvqa_hr(folder: pathlib.Path, count: int) -> None:
    """Writes RSVQA-HR: 131,468 questions about 2,226 images, without the 91,216 for numbers."""
    rng = random.Random(0)
    images = max(1, count * 2_226 // 131_468)
    asked = ["presence", "comp"] * (count // 2) + ["presence"] * (count % 2)
    asked += ["count"] * (count * 91_216 // 131_468)
    rng.shuffle(asked)
    questions, answers = [], []
    for i, kind in enumerate(asked):
        text, given = {
            "presence": ("Is a residential building present?", rng.choice(("yes", "no"))),
            "comp": ("Is the number of roads equal to the number of water areas in the image?",
                     rng.choice(("yes", "no"))),
            "count": ("What is the amount of buildings?", str(rng.randrange(99))),
        }[kind]  # fmt: skip
        questions.append(
            {
                "id": i, "img_id": i % images, "type": kind, "question": text, "answers_ids": [i],
                "active": True,
            }
        )  # fmt: skip
        answers.append({"id": i, "question_id": i, "answer": given, "active": True})
    write_json(folder / "USGS_split_test_questions.json", {"questions": questions})
    write_json(folder / "USGS_split_test_answers.json", {"answers": answers})
    with tarfile.open(folder / "Images.tar", "w") as archive:
        some = pictures(100, "TIFF")
        for i in range(images):
            data = some[i % len(some)]
            member = tarfile.TarInfo(f"Data/{i}.tif")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def make_ocrvqa(folder: pathlib.Path, count: int) -> None:
    """Writes OCR-VQA: 100,037 questions, five per book cover, each cover in a file of its own."""
    rng = random.Random(0)
    names = ("Ann Lee", "J. R. Ortiz", "The National Society of Cartographers", "Li Wei")
    titles = ("Trees", "A Short History of Rivers", "Cooking for One: 100 Recipes, Volume 2")
    kinds = ("Travel", "Cookbooks, Food & Wine", "Children's Books")
    asked: Iterable[tuple[str, Callable[[], str]]] = itertools.cycle(
        (
            ("Who wrote this book?", lambda: rng.choice(names)),
            ("What is the title of this book?", lambda: rng.choice(titles)),
            ("What type of book is this?", lambda: rng.choice(kinds)),
            ("Is this a recipe book?", lambda: rng.choice(("Yes", "No"))),
            ("What is the edition of this book?", lambda: str(rng.randrange(1, 9))),
        )
    )
    some = pictures(1000)
    (folder / "images").mkdir()
    covers = {}
    for n, first in enumerate(range(0, count, 5)):
        pairs = list(itertools.islice(asked, min(5, count - first)))
        covers[f"{n:010}"] = {
            "split": 3,
            "questions": [text for text, _ in pairs],
            "answers": [answer() for _, answer in pairs],
        }
        (folder / "images" / f"{n:010}.jpg").write_bytes(some[n % len(some)])
    write_json(folder / "dataset.json", covers)


CASES = {
    "vqav2": Case(make_vqav2, "validation", 214_354, "vqav2", "minival"),
    "rsvqa_hr": Case(make_rsvqa_hr, "test", 131_468, "rsvqa_hr", "test"),
    "ocrvqa": Case(make_ocrvqa, "test", 100_037, "ocrvqa", "test"),
}
