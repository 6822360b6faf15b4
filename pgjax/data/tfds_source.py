"""TFDS data sets stored as array_record, read without TensorFlow."""

from typing import Any

import numpy as np

from pgjax.errors import UserError
from pgjax.registry import SOURCES


@SOURCES.register("tfds")
class TfdsSource:
    """Random access through a TFDS data source; images stay encoded, text becomes str."""

    def __init__(self, dataset: str, split: str, data_dir: str | None = None):
        """Opens a prepared data set.

        Args:
          dataset: TFDS name, with config and version if wanted, such as `coco_captions:1.1.0`.
          split: TFDS split, such as `train[:90%]`.
          data_dir: where it was prepared; TFDS's default if None.

        Raises:
          UserError: unknown data set or split, or one not prepared as array_record.
        """
        self._args = (dataset, split, data_dir)
        self._name = f"tfds:{dataset}/{split}"
        try:
            import tensorflow_datasets as tfds  # slow to import, and only needed here
            from tensorflow_datasets.core.read_only_builder import builder_from_files

            # From its files: a data set's own code may need TensorFlow.
            builder = builder_from_files(dataset, data_dir=data_dir)
            self._encoded = _keep_encoded(builder.info.features, tfds)
            builder.as_data_source(split=[])  # checks the format
        except Exception as e:
            raise UserError(
                f"tfds: {dataset!r} in {data_dir or 'the default data_dir'} cannot be opened "
                f"({_reason(e)}); expected a data set prepared there in array_record format."
            ) from e
        try:
            self._source = builder.as_data_source(split=split, decoders=self._encoded)
        except Exception as e:
            filled = {name: info.num_examples for name, info in builder.info.splits.items()}
            raise UserError(
                f"tfds: {dataset!r} has no split {split!r} that can be read ({_reason(e)}); its "
                f"splits have these many examples: {filled}."
            ) from e

    def __reduce__(self):
        return TfdsSource, self._args

    def __len__(self) -> int:
        """Number of examples in the split."""
        return len(self._source)

    def where(self, index: int) -> str:
        """Data set, split and index."""
        return f"{self._name}:{index}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one example; nested features keep their nesting."""
        return _plain(self._source[index], self._encoded)


def _keep_encoded(feature: Any, tfds) -> Any:
    """Decoders that leave every image encoded, nested as the features; None where none is."""
    if isinstance(feature, tfds.features.Image):
        decoder = tfds.decode.SkipDecoding()
        # In sequences, TFDS's own would need TensorFlow.
        decoder.decode_batch_example_np = decoder.decode_example_np
        decoder.decode_ragged_example_np = decoder.decode_example_np
        return decoder
    if isinstance(feature, tfds.features.Sequence):
        return _keep_encoded(feature.feature, tfds)
    if isinstance(feature, tfds.features.FeaturesDict):
        inner = {key: _keep_encoded(value, tfds) for key, value in feature.items()}
        return {key: value for key, value in inner.items() if value is not None} or None
    return None


def _plain(value: Any, encoded: Any) -> Any:
    """Text as str, encoded images as bytes, numbers as Python's or arrays of them."""
    if isinstance(value, dict):
        return {k: _plain(v, encoded.get(k) if encoded else None) for k, v in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(v, encoded) for v in value]
    if isinstance(value, bytes) and not encoded:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value.item() if isinstance(value, np.generic) else value


def _reason(e: Exception) -> str:
    return (str(e).strip() or type(e).__name__).splitlines()[0].partition(". ")[0].rstrip(".")
