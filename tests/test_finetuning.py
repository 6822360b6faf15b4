"""`pgjax.finetune` with the name of a config, with data in memory, and what it returns."""

import numpy as np
import pytest

import pgjax
from pgjax.data.arrow_source import ArrowSource
from pgjax.data.decode import decode_image
from pgjax.data.memory_source import MemorySource, Table, hold
from pgjax.data.scenes import SceneSource
from pgjax.errors import DataError, UserError


def rows(count):
    source = SceneSource("finetune", tasks=("caption",), max_shapes=1)
    keys = ("image", "prefix", "suffix")
    return [{key: source[i][key] for key in keys} for i in range(count)]


def decode(example):
    image = example["image"]
    return {**example, "image": decode_image(image) if isinstance(image, bytes) else image}


def test_rows_in_many_forms(tmp_path):
    data = rows(3)
    want = hold(data)
    assert hold(list(data)) == want and hold(data[:2]) != want
    assert hold(iter(data)) == want
    source = MemorySource(want, split="train[1:]")
    assert len(source) == 2 and source.where(0) == "data[1]"
    np.testing.assert_array_equal(source[0]["image"], data[1]["image"])
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(data, index=[7, 8, 9])
    assert hold(frame) == want
    with pytest.raises(UserError, match="are not in memory"):
        MemorySource("of before")
    bad = MemorySource(hold([data[0], {"prefix": "caption"}]))
    with pytest.raises(DataError, match="has no 'image'"):
        bad[1]
    assert len(Table([data[0]])) == 1


def test_empty_cells_of_a_data_frame_are_left_out():
    pandas = pytest.importorskip("pandas")
    data = [{**row, "suffix": None if i == 1 else row["suffix"]} for i, row in enumerate(rows(3))]
    for frame in (pandas.DataFrame(data), pandas.DataFrame(data).convert_dtypes()):
        source = MemorySource(hold(frame))
        assert "suffix" not in source[1] and source[2]["suffix"] == data[2]["suffix"]
    with pytest.raises(UserError, match="expected a list of rows .* one split of a dataset"):
        hold({"train": data})


@pytest.fixture
def dataset():
    datasets = pytest.importorskip("datasets")
    data = rows(12)
    columns = {key: [row[key] for row in data] for key in data[0]}
    text = datasets.Value("string")
    features = datasets.Features(image=datasets.Image(), prefix=text, suffix=text)
    return datasets.Dataset.from_dict(columns, features=features)


def test_a_dataset_of_hugging_face(dataset, tmp_path):
    datasets = pytest.importorskip("datasets")
    data = rows(12)
    encoded = dataset.cast_column("image", datasets.Image(decode=False))
    for given in (dataset, dataset.with_format("numpy"), dataset.to_iterable_dataset(), encoded):
        source = MemorySource(hold(given))
        for i in (0, 5, 11):
            example = decode(source[i])
            np.testing.assert_array_equal(example.pop("image"), data[i]["image"])
            assert example == {key: data[i][key] for key in ("prefix", "suffix")}
    with pytest.raises(UserError, match="DatasetDict, expected .* one split of a dataset"):
        hold(datasets.DatasetDict(train=dataset))
    # What the library writes is read without it.
    datasets.DatasetDict(train=dataset, test=dataset.select([3])).save_to_disk(tmp_path / "saved")
    (tmp_path / "repo/data").mkdir(parents=True)
    dataset.to_parquet(tmp_path / "repo/data/train-00000-of-00001.parquet")
    for fname, split, wanted in (("saved", "train", data), ("repo", "train", data),
                                 ("saved", "test", data[3:4])):  # fmt: skip
        source = ArrowSource(str(tmp_path / fname), split)
        found = [decode(source[i]) for i in range(len(source))]
        assert [x["suffix"] for x in found] == [x["suffix"] for x in wanted]
        for example, row in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(example["image"], row["image"])


@pytest.mark.slow
def test_finetune_a_dataset_and_a_data_frame(dataset, tmp_path):
    """The same rows are the same run."""
    pandas = pytest.importorskip("pandas")
    losses = []
    for name, data in (("dataset", dataset), ("frame", pandas.DataFrame(rows(12)))):
        config = "forkme:variant=tiny,steps=2"
        tuned = pgjax.finetune(config, tmp_path / name, data=data)
        losses.append(tuned["val"]["loss"])
    assert losses[0] == losses[1] > 0


def test_finetune_by_name_with_rows(tmp_path):
    seen = []
    tuned = pgjax.finetune(
        "forkme:variant=tiny,steps=2",
        tmp_path / "run",
        data=rows(4),
        on_metrics=lambda step, values: seen.append((step, dict(values))),
    )
    assert set(tuned) == {"val", "answers"} and tuned.scores["val"]["examples"] == 4
    assert tuned["val"]["loss"] > 0 and "scores=" in repr(tuned)
    assert {step for step, _ in seen} == {1, 2} and any("loss" in values for _, values in seen)
    assert isinstance(tuned.model.generate(rows(1)[0]["image"], "caption"), str)
