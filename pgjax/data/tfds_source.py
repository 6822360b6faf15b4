"""TFDS data sets stored as array_record, read without TensorFlow."""

from typing import Any

import numpy as np

from pgjax.errors import UserError
from pgjax.registry import SOURCES


@SOURCES.register("tfds")
class TfdsSource:
    """Random access to a data set of TFDS; images stay encoded, text becomes str."""

    def __init__(self, dataset: str, split: str, data_dir: str | None = None):
        """Opens a prepared data set.

        Args:
          dataset: its name in TFDS, with config and version if wanted: `coco_captions:1.1.0`.
          split: as TFDS writes it, such as `train[:90%]`.
          data_dir: the folder that it was prepared in; None for the default of TFDS.

        Raises:
          UserError: an unknown data set or split, or one that is not prepared as array_record.
        """
        self._args = (dataset, split, data_dir)
        self._name = f"tfds:{dataset}/{split}"
        try:
            import tensorflow_datasets as tfds  # slow to import, and only needed here
            from tensorflow_datasets.core.read_only_builder import builder_from_files

            # From its files: a data set's own code may need TensorFlow.
            builder: Any = builder_from_files(dataset, data_dir=data_dir)
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

    def __reduce__(self) -> tuple[Any, ...]:
        return TfdsSource, self._args

    def __len__(self) -> int:
        """Returns the number of examples in the split."""
        return len(self._source)

    def where(self, index: int) -> str:
        """Returns data set, split and index, for messages."""
        return f"{self._name}:{index}"

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Reads one example; nested features keep their nesting."""
        return _plain(self._source[index], self._encoded)


def _keep_encoded(feature: Any, tfds: Any) -> Any:
    """Decoders that leave images encoded, nested as the features are; None where there is none."""
    if isinstance(feature, tfds.features.Image):
        decoder = tfds.decode.SkipDecoding()
        # For images in sequences, those of TFDS would need TensorFlow.
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
    """Converts text to str and scalars to Python numbers; encoded images stay bytes."""
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
