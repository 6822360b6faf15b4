"""Words in scenes and their places: ICDAR 2015, Total-Text, and what is trained on beside."""

import ast
import itertools
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pgjax.benchmarks.official_files import Files, Member
from pgjax.benchmarks.reader import IMAGE, Example, Reader, clean_space, grouped
from pgjax.data.decode import decode_image
from pgjax.errors import DataError, note
from pgjax.text.locations import format_words


class Word(NamedTuple):
    """A word: its outline x0, y0, x1, y1, … in pixels, and what is written, if one can read it."""

    outline: list[float]
    text: str
    legible: bool


# An image, its id, and its words.
Found = Iterator[tuple[Member, str, list[Word]]]


def _members(files: Files, pattern: str, folder: str) -> dict[str, Member]:
    """Files in an archive or a folder whose name has `folder` in it, by their names, in order."""
    found = (m for m in files.glob(pattern) if folder in f"{m.path}/{m.name}")
    return {pathlib.PurePath(m.name).stem: m for m in found}


def _competition(files: Files, images: str, texts: str, name: str, columns: int = 0) -> Found:
    """Texts of a Robust Reading Competition: eight coordinates, other columns, a transcription."""
    pictures = _members(files, f"{name}_*.[!t]*", images)  # .jpg, .png, .gif, and not .txt
    for stem, member in _members(files, f"*{name}_*.txt", texts).items():
        words = []
        for line in files.lines(member):
            *numbers, text = line.split(",", 8 + columns)
            if len(numbers) != 8 + columns:
                raise DataError(f"it has {len(numbers)} commas, expected {8 + columns} or more")
            text = _unquoted(text.strip())
            words.append(Word([*map(float, numbers[:8])], text, text != "###"))
        stem = stem.removeprefix("gt_")
        yield pictures.get(stem, Member(f"{stem}.jpg in {images}")), stem, words


def _unquoted(text: str) -> str:
    """What the competitions' own reader takes for the text of a line."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1].replace("\\\\", "\\").replace('\\"', '"')
    return text


def _icdar15_train(files: Files) -> Found:
    texts = "ch4_training_localization_transcription_gt"
    return _competition(files, "ch4_training_images", texts, "img")


def _icdar15_test(files: Files) -> Found:
    for texts in ("Challenge4_Test_Task4_GT", "Challenge4_Test_Task1_GT"):  # the same files
        if _members(files, "*img_*.txt", texts):
            return _competition(files, "ch4_test_images", texts, "img")
    return iter(())


def _mlt17(files: Files) -> Found:
    texts = "ch8_training_localization_transcription_gt_v2"
    return _competition(files, "ch8_training_images", texts, "img", columns=1)


def _mlt19(files: Files) -> Found:
    return _competition(files, "", "", "tr_img", columns=1)


_RECORD = re.compile(
    r"x: \[\[([\d\s-]*)\]\], y: \[\[([\d\s-]*)\]\], ornt: (\[.*\]), transcriptions: (\[.*\])\s*"
)


def _totaltext(files: Files, part: str) -> Found:
    """Polygons as Python 2 has printed their lists, long ones on several lines."""
    for member in files.glob(f"{part}/poly_gt_img*.txt"):
        words = []
        for record in re.split(r"^(?=x: )", files.text(member), flags=re.MULTILINE):
            if not record.strip():
                continue
            if not (match := _RECORD.fullmatch(record)):
                raise DataError(
                    f"{member.name} has {record[:80]!r}, expected 'x: [[…]], y: [[…]], …'"
                )
            xs, ys = match[1].split(), match[2].split()
            kind, text = ("".join(ast.literal_eval(one)[:1]) or "#" for one in match.groups()[2:])
            if len(xs) == len(ys) >= 3:  # some that do not count are no polygons
                outline = [float(v) for point in zip(xs, ys, strict=True) for v in point]
                words.append(Word(outline, text, "#" not in (text, kind)))
        stem = pathlib.PurePath(member.name).stem.removeprefix("poly_gt_")
        yield files.first(f"{part}/{stem}.jpg", f"{part}/{stem}.JPG"), stem, words


def _hiertext(files: Files) -> Found:
    if not (member := files.first("gt/train.jsonl", "hiertext/train.jsonl")):
        return
    for row in files.rows(member, "annotations"):
        words = [
            Word([float(v) for xy in word["vertices"] for v in xy], word["text"], word["legible"])
            for paragraph in row["paragraphs"]
            for line in paragraph["lines"]
            for word in line["words"]
        ]
        yield files[f"train/{row['image_id']}.jpg"], row["image_id"], words


def _textocr(files: Files) -> Found:
    if not (member := files["TextOCR_0.1_train.json"]):
        return
    rows = (row for _, row in files.entries(member, "anns"))
    words_of = grouped(rows, "image_id")
    for name, image in files.entries(member, "imgs"):
        words = [
            Word([*map(float, w["points"])], w["utf8_string"], w["utf8_string"] != ".")
            for w in words_of.get(name, ())
        ]
        yield files.first(f"train_images/{name}.jpg", image["file_name"]), name, words


def _intelocr(files: Files) -> Found:
    for part in "125f":
        if not (member := files[f"text_spotting_openimages_v5_train_{part}.json"]):
            continue
        words_of = grouped(files.rows(member, "annotations"), "image_id")
        for image in files.rows(member, "images"):
            words = []
            for row in words_of.get(image["id"], ()):
                said = row["attributes"]
                words.append(Word(_outline(row), said["transcription"], bool(said["legible"])))
            name = image["file_name"]
            yield files[name], pathlib.PurePath(name).with_suffix("").as_posix(), words


def _outline(row: Mapping[str, Any]) -> list[float]:
    """COCO's polygon of an annotation, or its box where there is none."""
    if isinstance(row.get("segmentation"), list) and row["segmentation"]:
        return [*map(float, row["segmentation"][0])]
    x, y, w, h = row["bbox"]
    return [x, y, x + w, y, x + w, y + h, x, y + h]


_TRAIN = {
    "ICDAR 2015": _icdar15_train,
    "Total-Text": lambda files: _totaltext(files, "Train"),
    "MLT17": _mlt17,
    "MLT19": _mlt19,
    "HierText": _hiertext,
    "TextOCR": _textocr,
    "IntelOCR": _intelocr,
}
_TEST = {"icdar15_test": _icdar15_test, "totaltext_test": lambda files: _totaltext(files, "Test")}


def read(files: Files, split: str) -> Iterator[Example]:
    """Yields an example per image; `train` joins the training sets that are in the source."""
    for name, find in _TRAIN.items() if split == "train" else [(split, _TEST[split])]:
        empty = True
        for image, key, words in find(files):
            empty, key = False, f"{name}/{key}" if split == "train" else key
            yield {"image": image, "image_id": key, "found": words}
        if empty:
            note(f"{name} is not among the source's files, and is left out")


def build(example: Example) -> Example:
    """Writes the target: legible words and boxes around them, as one reads lines of a page."""
    words: list[Word] = example.pop("found")
    height, width = decode_image(example["image"].read()).shape[:2]
    boxes, texts = [], []
    for outline, text, legible in words:
        if len(outline) < 6 or len(outline) % 2:
            raise DataError(f"the outline of {text!r:.40} has {len(outline)} coordinates")
        x0, x1 = (min(max(f(outline[::2]) / width, 0.0), 1.0) for f in (min, max))
        y0, y1 = (min(max(f(outline[1::2]) / height, 0.0), 1.0) for f in (min, max))
        if legible and clean_space(text) and x0 < x1 and y0 < y1:
            boxes.append((y0, x0, y1, x1))
            texts.append(clean_space(text))
    order = _raster(boxes)
    return {
        **example,
        "answers": [format_words([boxes[i] for i in order], [texts[i] for i in order])],
        "words": [clean_space(word.text) for word in words],
        "legible": [word.legible for word in words],
        "outlines": [",".join(f"{v:g}" for v in word.outline) for word in words],
        "size": [height, width],
    }


def _raster(boxes: Sequence[Sequence[float]]) -> Iterable[int]:
    """The order of boxes by lines: one is in a line whose first box reaches below its middle."""
    lines: list[list[int]] = []
    for i in sorted(range(len(boxes)), key=lambda i: boxes[i][0] + boxes[i][2]):
        if not lines or boxes[i][0] + boxes[i][2] > 2 * boxes[lines[-1][0]][2]:
            lines.append([])
        lines[-1].append(i)
    return list(
        itertools.chain.from_iterable(sorted(line, key=lambda i: boxes[i][1]) for line in lines)
    )


READER = Reader(
    about="Words in scenes and their places: ICDAR 2015, Total-Text and others (arXiv:1710.10400).",
    where="""\
The test sets are ICDAR 2015's, https://rrc.cvc.uab.es/?ch=4&com=downloads (with an account):
ch4_test_images.zip, Challenge4_Test_Task4_GT.zip; and Total-Text's,
https://github.com/cs-chan/Total-Text-Dataset: images (Test/img1.jpg, …) and polygons as text
(Test/poly_gt_img1.txt, …). Training takes those of these sets that are there:
ICDAR 2015 (ch4_training_images.zip, ch4_training_localization_transcription_gt.zip), Total-Text
(Train/…), MLT17 (?ch=8: ch8_training_images_1.zip, …,
ch8_training_localization_transcription_gt_v2.zip), MLT19 (?ch=15: tr_img_00001.jpg and .txt, …);
https://github.com/google-research-datasets/hiertext: train.tgz and gt/train.jsonl, decompressed;
https://textvqa.org/textocr: TextOCR_0.1_train.json, train_val_images.zip; IntelOCR of
https://github.com/openvinotoolkit/training_extensions:
text_spotting_openimages_v5_train_1.json (2, 5, f), and train_1.tar.gz, … of Open Images.
Archives keep their names, as do folders into which they are unpacked.""",
    licence="as stated on each page: for research, or CC BY 4.0; the images are their owners'.",
    key="image_id",
    features={
        "image": IMAGE, "image_id": str, "answers": [str], "words": [str], "legible": [bool],
        "outlines": [str], "size": [int],
    },
    splits={"train": None, "icdar15_test": 500, "totaltext_test": 300},
    read=read,
    build=build,
)  # fmt: skip
