"""TFDS data sets stored as array_record, read without TensorFlow."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pgjax.errors import UserError


class TfdsSource:
    """Random access through `tfds.data_source`; images stay encoded, text becomes str."""

    def __init__(self, dataset: str, split: str, data_dir: str | None = None):
        """Opens a prepared data set.

        Args:
          dataset: TFDS name, with config and version if wanted, such as `coco_captions:1.1.0`.
          split: TFDS split, such as `train[:90%]`.
          data_dir: where it was prepared; TFDS's default if None.

        Raises:
          UserError: unknown data set or split, or one not prepared as array_record.
        """
        import tensorflow_datasets as tfds  # slow to import, and only needed here

        self._name = f"tfds:{dataset}/{split}"
        try:
            builder = tfds.builder(dataset, data_dir=data_dir, try_gcs=False)
            decoders = _skip_images(builder.info.features, tfds)
            self._source = builder.as_data_source(split=split, decoders=decoders)
        except Exception as e:
            raise UserError(
                f"tfds: {dataset!r}, split {split!r}, data_dir {data_dir!r} cannot be opened "
                f"({_first_line(e)}); it must be prepared there in array_record format."
            ) from e
        if not len(self._source):
            raise UserError(f"{self._name} holds no example.")

    def __len__(self) -> int:
        """Number of examples in the split."""
        return len(self._source)

    def where(self, index: int) -> str:
        """Data set, split and index."""
        return f"{self._name}:{index}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one example; nested features keep their nesting."""
        return _plain(self._source[index])


def _skip_images(features: Mapping[str, Any], tfds) -> dict[str, Any]:
    """Decoders that leave every image feature encoded."""
    skip = {}
    for key, feature in features.items():
        if isinstance(feature, tfds.features.Image):
            skip[key] = tfds.decode.SkipDecoding()
        elif isinstance(feature, tfds.features.FeaturesDict) and (
            nested := _skip_images(feature, tfds)
        ):
            skip[key] = nested
    return skip


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == {"bytes", "path"}:  # an encoded image as some versions give it
            return value["bytes"]
        return {k: _text(k, _plain(v)) for k, v in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [_plain(v) for v in value.tolist()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def _text(key: str, value: Any) -> Any:
    """Bytes that are UTF-8 become str; encoded images never are."""
    if isinstance(value, bytes) and key != "image":
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return [_text(key, v) for v in value] if isinstance(value, list) else value


def _first_line(e: Exception) -> str:
    return (str(e).strip() or type(e).__name__).splitlines()[0][:200]
