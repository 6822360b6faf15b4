"""`pgjax make-jsonl`."""

import json
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from pgjax.commands.command import Command
from pgjax.errors import UsageError, UserError

if TYPE_CHECKING:
    from pgjax.data.importers.annotated import AnnotatedImage, Report

MOST_SENTENCES = 100  # that are printed about what was left out
SHEET_LINES, SHEET_COLUMNS = 24, 4


class MakeJsonl(Command):
    """Turns annotations of your own into JSONL that trains and evaluates.

    SOURCE is a file or a folder in one of these formats, which is recognized and named: COCO
    (boxes, polygons, run lengths; also as Roboflow exports it), Roboflow's PaliGemma JSONL, YOLO,
    Pascal VOC, an image folder with metadata.csv or metadata.jsonl, Label Studio JSON, CVAT for
    images, LabelMe, parquet or a data set saved by `datasets`, a WebDataset tar, or a folder of
    mask PNGs: masks/LABEL/PHOTO.png, where every grey level or palette index above 0 is an object.

    For boxes and masks, a line of the result is a question about one label in one image, with
    <loc…> and <seg…> tokens as the answer. What cannot be used is listed with its reason.
    """

    name = "make-jsonl"
    arguments = "SOURCE"
    example = "pgjax make-jsonl instances.json --images photos --out photos/train.jsonl"
    statuses = {3: "the file is written, but some annotations were left out"}

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._images = self.text(
            "images", None, "Folder of the images. By default, the source's own folder."
        )
        self._out = self.text("out", None, "The JSONL file to write. Required.")
        self._masks = self.boolean("masks", False, "Write masks as well, as <seg…> codes.")
        self._tiny = self.boolean(
            "tiny",
            False,
            "Use the mask codes of the tiny checkpoint, instead of the released ones.",
        )
        self._split = self.text("split", "train", "Which split of a source that has several.")
        self._evaluation = self.boolean(
            "evaluation",
            False,
            "The file is to evaluate on: also ask for labels that an image does not show, so that "
            "objects that are not there count as wrong. Short for --negatives=1.",
        )
        self._negatives = self.integer(
            "negatives",
            None,
            "Labels that an image does not show, to be asked for as well, with an empty answer: so "
            "many for each image, drawn at random. 0 unless --evaluation is given.",
            0,
        )
        self._annotated = self.choice(
            "annotated",
            None,
            ["stored", "shown"],
            "How annotations mean images that EXIF data turns, where their sizes do not tell. "
            "Boxes are always written for the pixels as stored, which pgjax reads.",
        )
        self._sheet = self.text("sheet", None, "A PNG of some lines with their boxes drawn.")

    def run(self) -> int:
        """Writes the file, whole or not at all."""
        if not self._out.value:
            raise UsageError(f"--out is needed; for instance: {self.example}.")
        from tqdm import tqdm

        from pgjax.data.importers.annotated import Import, Report
        from pgjax.data.importers.lines import LineWriter, root_of
        from pgjax.data.importers.recognize import recognize
        from pgjax.inference.mask_codec import open_codec

        source, out = (
            pathlib.Path(path).expanduser() for path in (self.positional[0], self._out.value)
        )
        found = recognize(source)
        images = self._folder_of_images(source, out, found.beside, found.holds_images)
        print(f"{source}: {found.name}")
        report = Report()
        negatives = self._negatives.value
        writer = LineWriter(
            images,
            root_of(images, out),
            report,
            open_codec(tiny=self._tiny.value).encode if self._masks.value else None,
            int(self._evaluation.value) if negatives is None else negatives,
            cast("Any", self._annotated.value),
        )
        given = Import(source, images, self._masks.value, self._split.value, report)
        pictures: Iterable[AnnotatedImage] = found.read(given)
        if found.holds_images:
            pictures = _written(pictures, images)
        bar = tqdm(pictures, unit=" images", disable=None, leave=False)
        _write(out, writer.lines(bar), source, report)
        self._say(out, writer.counts, report)
        if writer.root == images != out.parent:
            print(f"Image paths are relative to {images}; name it as `root` of the data.")
        if self._sheet.value:
            _draw(out, writer.root, pathlib.Path(self._sheet.value).expanduser())
        return 3 if report.left_out else 0

    def _folder_of_images(
        self, source: pathlib.Path, out: pathlib.Path, beside: bool, holds_images: bool
    ) -> pathlib.Path:
        if holds_images and not self._images.value:
            folder = out.with_name(f"{out.stem}_images")
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        if self._images.value:
            folder = pathlib.Path(self._images.value).expanduser()
        elif beside:
            folder = source if source.is_dir() else source.parent
        else:
            raise UsageError(f"--images is needed; for instance: {self.example}.")
        if not folder.is_dir():
            raise UserError(f"--images {folder} is no folder.")
        return folder

    def _say(self, out: pathlib.Path, counts: dict[str, int], report: "Report") -> None:
        print(f"{out}: " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
        if (without := counts["images without an object"]) and not counts["negative lines"]:
            print(
                f"NOTE: {without:,} images without an object have no line, so that no empty answer "
                "is learned or evaluated; --negatives=1 adds some.",
                file=sys.stderr,
            )
        for sentence in report.noted():
            print(f"NOTE: {sentence}", file=sys.stderr)
        for sentence in report.left_out[:MOST_SENTENCES]:
            print(f"left out: {sentence}", file=sys.stderr)
        if (more := len(report.left_out) - MOST_SENTENCES) > 0:
            print(f"left out: {more:,} more", file=sys.stderr)


def _write(
    out: pathlib.Path, lines: Iterator[dict], source: pathlib.Path, report: "Report"
) -> None:
    """Writes lines to a file, whole or not at all.

    Raises:
      UserError: there is no line.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f"{out.name}.part")
    encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make one for each line
    try:
        with part.open("w", encoding="utf-8") as f:
            for line in lines:
                f.write(encode(line) + "\n")
            empty = not f.tell()
        if empty:
            raise UserError(f"{source}: nothing to write. {' '.join(report.left_out[:3])}".strip())
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def _written(
    images: "Iterable[AnnotatedImage]", folder: pathlib.Path
) -> "Iterator[AnnotatedImage]":
    """Writes images that the source holds as files, and passes them on."""
    for image in images:
        if image.data is not None:
            (folder / image.file).write_bytes(image.data)
            image.data = None
        yield image


def _draw(out: pathlib.Path, root: pathlib.Path, sheet: pathlib.Path) -> None:
    """Draws some lines of a JSONL file, evenly spread, with their boxes."""
    from pgjax.data.jsonl import JsonlSource
    from pgjax.evaluation.contact_sheet import draw_records

    source = JsonlSource(str(out), root=str(root))
    indices = range(0, len(source), max(1, len(source) // SHEET_LINES))[:SHEET_LINES]
    records = [{**source[i], "index": i, "scores": {}} for i in indices]
    draw_records(source, records, SHEET_COLUMNS).save(sheet)
    print(f"{sheet}: {len(records)} of {len(source):,} lines drawn")
