"""Writes a tiny TFDS data set in array_record format, without TensorFlow."""

import io
import pathlib
from typing import Any

import numpy as np
from PIL import Image


def png(value: int, size: tuple[int, int] = (4, 5)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def write_tiny(data_dir: pathlib.Path, name: str = "tiny", count: int = 10) -> None:
    """`train` of `count` examples in shards of 4, and `test` of 2, as version 1.0.0."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    f = tfds.features
    features = f.FeaturesDict(
        {
            "image": f.Image(shape=(None, None, 3), encoding_format="png"),
            "caption": f.Text(),
            "label": f.ClassLabel(names=["cat", "dog", "fox"]),
            "score": np.float32,
            "ids": f.Sequence(np.int64),
            "captions": f.Sequence(f.Text()),
            "objects": f.Sequence({"bbox": f.BBoxFeature(), "name": f.Text()}),
            "frames": f.Sequence(f.Image(shape=(4, 5, 3), encoding_format="png")),
            "meta": {"image": f.Image(encoding_format="png"), "id": np.int64, "raw": np.str_},
        }
    )

    def example(i: int) -> dict[str, Any]:
        return {
            "image": io.BytesIO(png(i)),
            "caption": f"a café, {i}",
            "label": i % 3,
            "score": i / 2,
            "ids": list(range(i)),
            "captions": [f"first {i}", "second"],
            "objects": [{"bbox": f.BBox(0.0, 0.0, 0.5, 1.0), "name": "cup"}] * (i % 2),
            "frames": [io.BytesIO(png(i + 1)), io.BytesIO(png(i + 2))],
            "meta": {"image": io.BytesIO(png(i)), "id": i, "raw": b"\xff\x00"},
        }

    folder = data_dir / name / "1.0.0"
    folder.mkdir(parents=True)
    identity = DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name="tiny"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=4, file_format="array_record")
    writer.initialize_splits(["train", "test", "empty"])
    writer.add_examples({"train": map(example, range(count)), "test": map(example, range(2))})
    writer.close_all()
