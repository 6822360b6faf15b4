"""`pgjax make-jsonl`."""

import json
import pathlib
import sys
from collections.abc import Sequence

from pgjax.commands.command import Command
from pgjax.errors import UsageError, UserError


class MakeJsonl(Command):
    """Turns boxes and masks of your own into JSONL with <loc…> and <seg…> suffixes.

    ANNOTATIONS is a file in COCO's format, or a folder of mask PNGs: masks/LABEL/PHOTO.png, where
    every grey level or palette index above 0 is an object of its own. A line of the result is a
    question about one label in one image. What cannot be used is listed with its reason.
    """

    name = "make-jsonl"
    arguments = "ANNOTATIONS"
    example = "pgjax make-jsonl instances.json --images photos --out photos/train.jsonl"
    statuses = {3: "the file is written, but some annotations were left out"}

    def __init__(self, argv: Sequence[str]):
        """Defines the flags."""
        super().__init__(argv)
        self._images = self.text("images", None, "Folder of the images. Required.")
        self._out = self.text("out", None, "The JSONL file to write. Required.")
        self._masks = self.boolean("masks", False, "Write masks as well, as <seg…> codes.")
        self._tiny = self.boolean(
            "tiny",
            False,
            "Use the mask codes of the tiny checkpoint, instead of the released ones.",
        )

    def run(self) -> int:
        """Writes the file, whole or not at all."""
        if not self._images.value or not self._out.value:
            raise UsageError(f"--images and --out are needed; for instance: {self.example}.")
        from tqdm import tqdm

        from pgjax.data.annotations import LeftOut, from_coco, from_folder, lines, root_of
        from pgjax.inference.mask_codec import open_codec

        annotations, images, out = (
            pathlib.Path(path).expanduser()
            for path in (self.positional[0], self._images.value, self._out.value)
        )
        if not images.is_dir():
            raise UserError(f"--images {images} is no folder.")
        left, count, root = LeftOut(), 0, root_of(images, out)
        if annotations.is_dir():
            pictures = from_folder(annotations, images, left)
        else:
            pictures = from_coco(annotations, self._masks.value, left)
        encode = open_codec(tiny=self._tiny.value).encode if self._masks.value else None
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_suffix(".part")
        try:
            with part.open("w") as f:
                bar = tqdm(pictures, unit=" images", disable=None, leave=False)
                for line in lines(bar, images, root, encode, left):
                    f.write(json.dumps(line, ensure_ascii=False) + "\n")
                    count += 1
            if not count:
                raise UserError(f"{annotations}: no object to write. {'; '.join(left[:3])}")
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
        print(f"{out}: {count} lines")
        if root == images != out.parent:
            print(f"Image paths are relative to {images}; name it as `root` of the data.")
        for sentence in left:
            print(f"left out: {sentence}", file=sys.stderr)
        return 3 if left else 0
