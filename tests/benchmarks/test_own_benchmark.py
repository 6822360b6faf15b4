"""The benchmark of one's own in the evaluation guide works as it stands there."""

import csv
import io
import re
import sys

import pytest
from conftest import ROOT, TESTS

sys.path.append(str(TESTS / "benchmarks"))

from fixture import picture, write, write_zip

from pgjax.benchmarks.preparation import prepare
from pgjax.benchmarks.readers import READERS


@pytest.fixture
def code():
    """The reader and the transfer of the guide."""
    page = (ROOT / "docs" / "guides" / "evaluation.md").read_text()
    section = page.partition("## A benchmark of your own")[2]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    reader, transfer = ({} for _ in blocks)
    for block, names in zip(blocks, (reader, transfer), strict=True):
        exec(block, names)
    return reader["READER"], transfer["get_config"]


@pytest.fixture
def source(tmp_path):
    """What it says is published."""
    out = io.StringIO()
    columns = ("id", "photo", "question", "answer", "split")
    writer = csv.writer(out)
    writer.writerow(columns)
    for i in range(6):
        writer.writerow(
            (f"s{i}", f"{i}.jpg", f"what is {i}?", "STOP", "test" if i > 3 else "train")
        )
    write(tmp_path / "source/signs.csv", out.getvalue())
    photos = {f"photos/{i}.jpg": picture(i) for i in range(6)}
    write_zip(tmp_path / "source/photos.zip", photos)
    return tmp_path / "source"


def test_it_is_prepared(code, source, tmp_path, monkeypatch):
    monkeypatch.setitem(READERS, "signs", code[0])
    report = prepare("signs", source, tmp_path / "data")
    assert report["splits"]["train"] == {"examples": 4, "official": 4}
    assert report["splits"]["test"]["examples"] == 2 and not report["unreadable"]
    assert code[1]("res=448").total_epochs == 5


@pytest.mark.slow
def test_it_trains_and_is_scored(code, source, tmp_path, monkeypatch):
    from pgjax.training.loop import train

    monkeypatch.setitem(READERS, "signs", code[0])
    prepare("signs", source, tmp_path / "data")
    config = code[1]("mini")
    config.data_dir = str(tmp_path / "data")
    scores = train(config.to_dict(), tmp_path / "run")
    assert scores["test"]["examples"] == 2 and 0 <= scores["test"]["acc"] <= 1
