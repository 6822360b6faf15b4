"""Which format annotations are in, and where their images lie."""

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pgjax.data.dataset_folder import tables_in
from pgjax.data.importers.annotated import AnnotatedImage, Import
from pgjax.data.importers.coco import ROBOFLOW_FILE, read_coco
from pgjax.data.importers.image_tables import (
    METADATA,
    metadata_file,
    read_arrow,
    read_imagefolder,
    read_webdataset,
)
from pgjax.data.importers.json_stream import elements
from pgjax.data.importers.json_tools import (
    is_label_studio,
    is_labelme,
    parse_json,
    read_label_studio,
    read_labelme,
)
from pgjax.data.importers.mask_folder import read_mask_folder
from pgjax.data.importers.roboflow_jsonl import PATTERN, read_roboflow_jsonl
from pgjax.data.importers.xml_files import parse_xml, read_cvat, read_voc, voc_files
from pgjax.data.importers.yolo import find_yaml, read_yolo
from pgjax.errors import DataError, UserError

EXPECTED = (
    "a file of COCO, Label Studio, CVAT or LabelMe, Roboflow's JSONL, a parquet file or a tar; or "
    "a folder with data.yaml, _annotations.coco.json, metadata.csv or metadata.jsonl, XML files of "
    "Pascal VOC, JSON files of LabelMe, parquet files, or masks as LABEL/PHOTO.png"
)


class Format(NamedTuple):
    """A format of annotations.

    Attributes:
      name: what it is called.
      read: its reader.
      beside: whether its images lie in the source's own folder, if none is given.
      holds_images: whether the source holds the images, which are then written as files.
    """

    name: str
    read: Callable[[Import], Iterator[AnnotatedImage]]
    beside: bool = True
    holds_images: bool = False


COCO = Format("COCO", read_coco)
LABELME = Format("LabelMe JSON", read_labelme)


def recognize(source: pathlib.Path) -> Format:
    """Returns the format of a file or folder, by its name and its beginning.

    Raises:
      UserError: it does not exist, or is in no format that is known.
    """
    if source.is_dir():
        found = _of_folder(source)
    elif source.is_file():
        found = _of_file(source)
    else:
        raise UserError(f"{source} does not exist, expected {EXPECTED}.")
    if found is None:
        raise UserError(f"{source} is in no known format, expected {EXPECTED}.")
    return found._replace(read=functools.partial(_explained, found))


def _explained(found: Format, given: Import) -> Iterator[AnnotatedImage]:
    """Reads annotations; what a reader runs into in damaged files becomes a sentence."""
    try:
        yield from found.read(given)
    except UserError:
        raise
    except Exception as e:
        reason = " ".join(f"{type(e).__name__}: {e}".split())
        raise UserError(f"{given.source} cannot be read as {found.name} ({reason}).") from e


def _of_folder(folder: pathlib.Path) -> Format | None:
    if (folder / ROBOFLOW_FILE).is_file():
        return COCO._replace(name="COCO, as Roboflow exports it")
    if find_yaml(folder):
        return Format("YOLO", read_yolo)
    if list(folder.glob(PATTERN)) or list(folder.glob(f"*/{PATTERN}")):
        return Format("Roboflow's PaliGemma JSONL", read_roboflow_jsonl)
    if metadata_file(folder):
        return Format("imagefolder with metadata", read_imagefolder)
    if voc_files(folder):
        return Format("Pascal VOC", read_voc)
    if tables_in(folder):
        return Format("parquet or arrow", read_arrow, beside=False, holds_images=True)
    splits = sorted(p.parent.name for p in folder.glob(f"*/{ROBOFLOW_FILE}"))
    if splits:
        raise UserError(f"{folder} holds the splits {', '.join(splits)}; give the folder of one.")
    if any(is_labelme(_parsed(file)) for file in sorted(folder.rglob("*.json"))[:3]):
        return LABELME
    if any(folder.glob("*/**/*.png")):
        return Format("masks as LABEL/PHOTO.png", read_mask_folder, beside=False)
    return None


def _of_file(path: pathlib.Path) -> Format | None:
    name = path.name.lower()
    if name.endswith((".yaml", ".yml")):
        return Format("YOLO", read_yolo)
    if name in METADATA:
        return Format("imagefolder with metadata", read_imagefolder)
    if name.endswith(".jsonl"):
        return Format("Roboflow's PaliGemma JSONL", read_roboflow_jsonl)
    if name.endswith((".parquet", ".arrow")):
        return Format("parquet or arrow", read_arrow, beside=False, holds_images=True)
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return Format("WebDataset", read_webdataset, beside=False, holds_images=True)
    if name.endswith(".xml"):
        try:
            root = parse_xml(path).tag
        except DataError as e:
            raise UserError(f"{path} {e}") from None
        return {
            "annotation": Format("Pascal VOC", read_voc),
            "annotations": Format("CVAT for images", read_cvat),
        }.get(root)
    with path.open("rb") as f:
        start = f.read(64).replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    if start.startswith(b"["):
        return (
            Format("Label Studio JSON", read_label_studio)
            if is_label_studio(parse_json(path))
            else None
        )
    if start.startswith((b"{", b"\x1f\x8b", b"\x28\xb5")):
        keys = set[str]()
        for key, _ in elements(path):
            keys.add(key)
            if key in ("images", "annotations", "categories"):
                return COCO
        if "imagePath" in keys:
            return LABELME
    return None


def _parsed(path: pathlib.Path) -> object:
    try:
        return parse_json(path) if path.stat().st_size < 1 << 26 else None
    except UserError:
        return None
