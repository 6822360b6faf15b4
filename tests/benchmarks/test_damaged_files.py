"""Official files that are damaged: one sentence, with the file and the place in it."""

import bz2
import gzip
import io
import json
import pickle
import sys
import tarfile
import zipfile

import numpy as np
import pytest
from conftest import TESTS

sys.path.append(str(TESTS / "benchmarks"))

import make_nocaps
import make_science_qa
import make_vqav2
from fixture import write

from pgjax.benchmarks import official_files
from pgjax.benchmarks.features import check_features
from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.preparation import prepare
from pgjax.benchmarks.reader import BOX
from pgjax.errors import DataError, UserError

ANNOTATIONS = "v2_mscoco_val2014_annotations.json"


@pytest.fixture
def vqav2(tmp_path):
    make_vqav2.make(tmp_path / "source")
    path = tmp_path / "source" / ANNOTATIONS

    def run(change):
        rows = json.loads(path.read_text())
        content = change(rows)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(rows).encode())
        return prepare("vqav2", tmp_path / "source", tmp_path / "out", check_counts=False,
                       splits=["validation"], format="jsonl")  # fmt: skip

    return run


def drop(key, row=slice(None)):
    def change(content):
        for one in content["annotations"][row]:
            del one[key]

    return change


NOT_THIS, BAD = "this is not the format of vqav2; --help says", "this record is bad"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("annotations") and None, rf"has no 'annotations'; {NOT_THIS}"),
        (lambda c: c.update(annotations={}), rf"holds a dict, expected a list; {NOT_THIS}"),
        (lambda c: b"[]", rf"{ANNOTATIONS} holds a list, expected an object; {NOT_THIS}"),
        (drop("question_id"), rf"annotations\[0\]: 'question_id' is missing; {NOT_THIS}"),
        (drop("question_id", slice(2, 3)), rf"annotations\[2\]: 'question_id' is missing; {BAD}"),
        (lambda c: c["annotations"].insert(1, 5), rf"annotations\[1\]: it is a int, .*{BAD}"),
        (lambda c: c["annotations"][3].update(answers=[1]), r"questions\[0\]: TypeError: "),
        (lambda c: b"\xff\xfe{", r"is not JSON"),
        (lambda c: b"[" * 100_000, r"is not JSON \(maximum recursion"),
    ],
)  # fmt: skip
def test_the_place_is_named(vqav2, change, message):
    with pytest.raises(UserError, match=message) as raised:
        vqav2(change)
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)


def test_values_of_another_kind_are_left_out(vqav2):
    report = vqav2(lambda c: c["annotations"][3]["answers"][0].update(answer=None))
    (left,) = report["unreadable"]
    assert left["reason"] == "answers is None, expected text"
    assert report["splits"]["validation"]["examples"] == 3


@pytest.mark.parametrize(
    ("value", "feature"),
    [
        (True, int), (2**63, int), (1.0, int), ("\ud800", str), (None, str), (b"x", str), (1, bool),
        (float("nan"), float), (10**400, float), ("x", [str]), ([1], [str]), ([0, 0, 1], BOX),
        ({"a": "x"}, {"a": int}),
    ],
)  # fmt: skip
def test_features(value, feature):
    with pytest.raises(DataError, match=r"the id is|is .*, expected "):
        check_features(value, feature)


def test_features_that_fit():
    check_features({"a": [1, np.int64(2)], "b": (0, 0.5, 1, np.float32(1))}, {"a": [int], "b": BOX})


def test_a_key_of_another_kind(tmp_path):
    make_science_qa.make(tmp_path / "source")
    path = next((tmp_path / "source").rglob("problems.json"))
    path.write_text(json.dumps({"1": json.loads(path.read_text()).popitem()[1], "2": None}))
    with pytest.raises(UserError, match=r"problems.json: 2: it is nothing, expected an object"):
        prepare("science_qa", tmp_path / "source", tmp_path / "out", check_counts=False)


def tar_of(data, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        info = tarfile.TarInfo("a.json")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_archives_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(official_files, "_ROOM", 1 << 16)
    zeros = bytes(1 << 22)
    write(tmp_path / "a.tar.gz", gzip.compress(tar_of(zeros)))
    files = Files(tmp_path, tmp_path / "unpacked")
    with pytest.raises(UserError, match=r"a.tar.gz cannot be decompressed .*100 times larger"):
        files.json("a.json")
    assert not list((tmp_path / "unpacked").iterdir())
    (tmp_path / "a.tar.gz").unlink()
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("b.json", zeros)
    with pytest.raises(UserError, match=r"b.json in .*b.zip cannot be read \(ValueError: 4194304"):
        Files(tmp_path, tmp_path / "unpacked").json("b.json")
    monkeypatch.setattr(official_files, "_LONGEST_LINE", 1 << 16)
    write(tmp_path / "c.jsonl.bz2", bz2.compress(zeros))
    with pytest.raises(UserError, match="c.jsonl.bz2 cannot be read .*longer than"):
        list(Files(tmp_path, tmp_path / "unpacked").jsonl("c.jsonl.bz2"))


def test_archives_that_are_cut_short(tmp_path):
    write(tmp_path / "a.tar", tar_of(b"[1, 2, 3]" * 200)[:1000])
    with pytest.raises(UserError, match=r"The archive .*a.tar cannot be read .*end of data"):
        Files(tmp_path, tmp_path / "u")
    (tmp_path / "a.tar").unlink()
    write(tmp_path / "b.zip", b"PK\x03\x04" + bytes(40) + b"PK\x05\x06" + b"\xff" * 18)
    with pytest.raises(UserError, match=r"The archive .*b.zip cannot be read"):
        Files(tmp_path, tmp_path / "u")


def test_links_to_a_folder_above_end(tmp_path):
    write(tmp_path / "source/x.txt", "x")
    for name in ("up", "again"):
        (tmp_path / "source" / name).symlink_to(tmp_path / "source")
    assert Files(tmp_path / "source", tmp_path / "u").text("x.txt") == "x"


def test_text_pickle_and_parquet(tmp_path):
    write(tmp_path / "a.csv", b"id,x\n1,\xff\n")
    write(tmp_path / "b.p", pickle.dumps([{"a": 1}], protocol=2)[:-3] + b"l.")
    write(tmp_path / "c.parquet", b"PAR1" + bytes(50) + b"PAR1")
    files = Files(tmp_path, tmp_path / "u")
    for read, message in (
        (lambda: list(files.csv("a.csv")), "a.csv is not text in UTF-8"),
        (lambda: files.pickle("b.p"), "b.p is no pickle of plain values"),
        (lambda: list(files.parquet("c.parquet")), "c.parquet is no parquet file"),
    ):
        with pytest.raises(UserError, match=message):
            read()


def test_a_reader_that_fails_is_explained(tmp_path, monkeypatch):
    make_nocaps.make(tmp_path / "source")
    path = tmp_path / "source/nocaps_val_4500_captions.json"
    content = json.loads(path.read_text())
    content["images"][1]["file_name"] = ["x"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"images\[1\]: (Type|Attribute)Error: .*is bad"):
        prepare("nocaps", tmp_path / "source", tmp_path / "out", check_counts=False)
