"""Writes shards of examples, as array_record or JSONL with image files, and TFDS's description."""

import contextlib
import functools
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from pgjax.benchmarks.features import check_features
from pgjax.benchmarks.official_files import Cell, Member, reason
from pgjax.benchmarks.reader import BOX, IMAGE, Example, Reader
from pgjax.data.decode import decode_image
from pgjax.errors import DataError, UserError

Left = list[dict[str, str]]  # what could not be read: {"id", "reason"}


def write_shard(
    reader: Reader,
    examples: Sequence[Example],
    path: pathlib.Path,
    options: Mapping[str, Any],
    features: Any = None,
) -> tuple[int, int, Left]:
    """Builds examples and writes them; the file appears whole or not at all.

    Args:
      reader: the benchmark's reader.
      examples: as `read` yields them.
      path: file of the shard.
      options: options of the reader's `build`.
      features: features of TFDS, to write array_record; None to write JSONL, with the images in a
        folder `images` beside the file.

    Returns:
      The number of examples written, the size of the file in bytes, and what was left out.
    """
    part = path.with_name(path.name + ".part")
    writer = _JsonlWriter(part) if features is None else _RecordWriter(part, features)
    left: Left = []
    with contextlib.closing(writer):
        for example in examples:
            key = example[reader.key]
            try:
                built = _checked(reader, reader.build(dict(example), **options))
                writer.write(key, encoded(built, reader.features))
            except OSError:
                raise  # of the disk that is written to
            except Exception as e:
                if isinstance(e, UserError) and not isinstance(e, DataError):
                    raise  # such as a missing library, which is missing for all
                left.append({"id": str(key), "reason": reason(e)})
    part.replace(path)
    return writer.count, path.stat().st_size, left


def _checked(reader: Reader, example: Example) -> Example:
    if example.keys() != reader.features.keys():
        raise UserError(
            f"the reader yields {sorted(example)}, expected its features {sorted(reader.features)}"
        )
    check_features(example, reader.features)
    return example


def encoded(value: Any, feature: Any) -> Any:
    """Replaces every image in a value by `Encoded` bytes.

    Raises:
      DataError: an image cannot be read or decoded.
    """
    if isinstance(feature, Mapping):
        return {key: encoded(value[key], inner) for key, inner in feature.items()}
    if isinstance(feature, list):
        return [encoded(v, feature[0]) for v in value]
    return encoded_image(value) if feature == IMAGE else value


class Encoded:
    """An image's bytes and a name for its file."""

    def __init__(self, data: bytes, name: str = ""):
        self.data = data
        self.name = name


def encoded_image(value: Any) -> Encoded:
    """The bytes of an image as they are, where pgjax can decode them, and PNG otherwise.

    Args:
      value: `Member`, `Cell`, bytes, a PIL image or uint8 [H,W,3].

    Raises:
      DataError: it cannot be read or decoded.
    """
    if isinstance(value, Member | Cell):
        return Encoded(_checked_image(value), value.name)
    if isinstance(value, bytes):
        return Encoded(_usable(value))
    picture = value if isinstance(value, Image.Image) else Image.fromarray(value)
    return Encoded(_png(picture))


@functools.lru_cache(maxsize=16)
def _checked_image(member: Member | Cell) -> bytes:
    """Reads and checks an image; cached, since several questions in a row are about one."""
    try:
        return _usable(member.read())
    except DataError as e:
        raise DataError(f"{member.name}: {e}" if member.name not in str(e) else str(e)) from None


def _usable(data: bytes) -> bytes:
    if data[:4] in (b"II*\0", b"MM\0*"):  # TIFF, of remote sensing; nothing else here reads it
        try:
            with Image.open(io.BytesIO(data)) as picture:
                return _png(picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
            raise DataError(f"the image is damaged or cut short: {e}") from e
    decode_image(data)
    return data


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


class _RecordWriter:
    """Writes array_record files, as TFDS does."""

    def __init__(self, path: pathlib.Path, features: Any):
        from array_record.python.array_record_module import ArrayRecordWriter
        from tensorflow_datasets.core.example_serializer import ExampleSerializer

        self.count, self._features = 0, features
        self._serializer = ExampleSerializer(features.get_serialized_info())
        self._writer = ArrayRecordWriter(os.fspath(path), "group_size:1")

    def write(self, key: Any, example: Example) -> None:
        stored = self._features.encode_example(_map(example, lambda e: io.BytesIO(e.data)))
        self._writer.write(self._serializer.serialize_example(stored))
        self.count += 1

    def close(self) -> None:
        self._writer.close()


class _JsonlWriter:
    """Writes JSON lines, and an image file for every image."""

    def __init__(self, path: pathlib.Path):
        self.count, self._folder = 0, path.parent
        self._file = path.open("w")

    def write(self, key: Any, example: Example) -> None:
        plain = _map(example, self._image)
        self._file.write(json.dumps(plain, ensure_ascii=False) + "\n")
        self.count += 1

    def _image(self, image: Encoded) -> str:
        digest = hashlib.sha256(image.data).hexdigest()[:16]
        # Named by content, since many examples may share an image, and others only a name.
        suffix = ".png" if image.data[:4] == b"\x89PNG" else pathlib.Path(image.name).suffix
        path = self._folder / "images" / digest[:2] / f"{digest}{suffix.lower() or '.jpg'}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            try:
                part.write_bytes(image.data)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        return path.relative_to(self._folder).as_posix()

    def close(self) -> None:
        self._file.close()


def _map(value: Any, function: Any) -> Any:
    """Applies a function to every image, and turns numbers of numpy into plain ones."""
    if isinstance(value, Encoded):
        return function(value)
    if isinstance(value, dict):
        return {k: _map(v, function) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_map(v, function) for v in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def tfds_features(features: Mapping[str, Any]) -> Any:
    """The features of TFDS that stand for those of a reader."""
    import tensorflow_datasets as tfds

    def of(feature):
        if isinstance(feature, Mapping):
            return tfds.features.FeaturesDict({k: of(v) for k, v in feature.items()})
        if isinstance(feature, list):
            return tfds.features.Sequence(of(feature[0]))
        if feature == IMAGE:
            return tfds.features.Image(shape=(None, None, 3))
        if feature == BOX:
            return tfds.features.Tensor(shape=(4,), dtype=np.float32)
        plain = {str: tfds.features.Text(), int: np.int64, float: np.float32, bool: np.bool_}
        return plain[feature]

    return of(features)


def write_info(
    name: str,
    reader: Reader,
    folder: pathlib.Path,
    features: Any,
    shards: Mapping[str, tuple[list[int], int]],
) -> None:
    """Writes TFDS's dataset_info.json and features.json, which make a data set of shards.

    Args:
      name: name of the data set.
      reader: its reader.
      folder: folder of the shards.
      features: from `tfds_features`.
      shards: for each split, the number of examples in each shard, and their bytes in all.
    """
    import tensorflow_datasets as tfds
    from etils import epath
    from tensorflow_datasets.core import file_adapters
    from tensorflow_datasets.core.dataset_info import DatasetIdentity
    from tensorflow_datasets.core.naming import ShardedFileTemplate
    from tensorflow_datasets.core.splits import SplitDict, SplitInfo

    identity = DatasetIdentity(
        name=name,
        version=tfds.core.Version(reader.version),
        data_dir=str(folder),
        module_name=f"pgjax.prepare.{name}",
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=reader.about,
        features=features,
        license=reader.licence,
    )
    info.set_file_format(file_adapters.FileFormat.ARRAY_RECORD)
    template = ShardedFileTemplate(
        data_dir=epath.Path(folder), dataset_name=name, filetype_suffix="array_record"
    )
    splits = [
        SplitInfo(
            name=split,
            shard_lengths=lengths,
            num_bytes=size,
            filename_template=template.replace(split=split),
        )
        for split, (lengths, size) in shards.items()
    ]
    info.set_splits(SplitDict(splits))
    info.write_to_directory(folder)
