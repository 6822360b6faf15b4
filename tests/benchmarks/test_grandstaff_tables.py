"""GrandStaff as its authors have put it on Hugging Face: tables with images and bekern."""

import pyarrow as pa
from fixture import picture
from make_grandstaff import KERN, PLAIN
from pyarrow import parquet

from pgjax.benchmarks.preparation import prepare
from pgjax.data.sources import make_source


def test_tables(tmp_path):
    (tmp_path / "source").mkdir()
    notes = KERN.replace("8cc#L", "8·cc·#·L")
    for part in ("train", "val", "test"):
        for i in range(2):
            image = {"bytes": picture(i), "path": None}
            table = pa.table({"image": [image], "transcription": [notes]})
            parquet.write_table(table, tmp_path / f"source/{part}-0000{i}-of-00002.parquet")
    options = {"format": "jsonl", "splits": ["train", "validation"]}
    report = prepare("grandstaff", tmp_path / "source", tmp_path / "out", **options)
    assert {s: row["examples"] for s, row in report["splits"].items()} == {
        "train": 2, "validation": 2,
    }  # fmt: skip
    source = make_source({"name": "prepared", "dataset": "grandstaff", "split": "validation",
                          "data_dir": str(tmp_path / "out")})  # fmt: skip
    assert source[1]["image_id"] == "val/1" and source[1]["answers"] == [PLAIN]
