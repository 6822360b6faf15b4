"""What all readers share: archives, what cannot be read, interruptions, processes."""

import io
import json
import pickle
import shutil
import sys
import tarfile

import numpy as np
import pytest
from conftest import TESTS
from PIL import Image

from pgjax.data.decode import decode_image
from pgjax.data.sources import make_source
from pgjax.errors import DataError, UserError

sys.path.append(str(TESTS / "benchmarks"))

import make_nocaps
from fixture import picture, write, write_zip

from pgjax.benchmarks import preparation
from pgjax.benchmarks.official_files import Files
from pgjax.benchmarks.readers import READERS
from pgjax.benchmarks.shards import encoded_image


@pytest.fixture
def source(tmp_path):
    make_nocaps.make(tmp_path / "source")
    return tmp_path / "source"


def run(source, out, name="nocaps", **options):
    defaults = {"workers": 0, "check_counts": False, "splits": ["validation"]}
    return preparation.prepare(name, source, out, **{**defaults, **options})


def open_split(out, split="validation"):
    return make_source({"name": "prepared", "dataset": "nocaps", "split": split, "data_dir": out})


def test_what_cannot_be_read_is_listed(source, tmp_path, program):
    (source / "images/000f.jpg").unlink()
    (source / "images/002f.jpg").write_bytes(picture(2)[:-300])
    args = ["prepare", "nocaps", f"--source={source}", f"--out={tmp_path}", "--workers=0"]
    args += ["--no-check_counts"]
    said = program(*args, "--splits=validation", status=3)
    assert "validation: 1 examples" in said.out
    assert "left out: validation 0: 000f.jpg is not among the source's files" in said.err
    assert "left out: validation 2: images/002f.jpg: the image is damaged" in said.err
    report = json.loads((tmp_path / "nocaps/1.0.0/report.json").read_text())
    assert [row["id"] for row in report["unreadable"]] == ["0", "2"]
    assert report["splits"] == {"validation": {"examples": 1, "official": 4500}}
    assert [open_split(tmp_path)[0]["image_id"]] == [1]

    said = program(*args, "--splits=validation", status=1)
    assert "exists already; --overwrite replaces it" in said.err
    said = program(*args, "--splits=test", "--overwrite", status=1)
    assert "test has no example that can be read (the first reason: 000f.jpg" in said.err


def test_messages(source, tmp_path, program):
    args = ["prepare", "nocaps", f"--source={source}", f"--out={tmp_path}", "--workers=0"]
    err = program(*args, status=1).err
    assert "validation has 3 of 4,500; test has 1 of 10,600" in err and err.count("\n") == 1
    for changed, message in (
        (["--splits=val"], r"--splits ['val']: nocaps has only ['validation', 'test']"),
        ([f"--source={source}/nope"], "nope is no folder"),
        ([f"--source={source}/images"], "nocaps_val_4500_captions.json is not among the source's"),
    ):
        assert message in program(*args, *changed, status=1).err
    assert not list(tmp_path.glob("nocaps/*/*.array_record*"))
    with pytest.raises(UserError, match=r"'nocaps' is not prepared.*pgjax prepare nocaps --help"):
        open_split(tmp_path)


def test_help_says_where_and_under_which_licence(program):
    for name, reader in READERS.items():
        said = program("prepare", name, "--help").out
        assert reader.licence in said and reader.where in said and "http" in reader.where
    for args in (["prepare", "--list"], ["list", "benchmarks"]):
        assert len(program(*args).out.splitlines()) == len(READERS)


@pytest.mark.parametrize("form", preparation.FORMATS)
def test_goes_on_where_it_was(source, tmp_path, monkeypatch, form):
    write_shard, done = preparation.write_shard, []

    def killed(reader, examples, path, *args):
        if len(done) == 2:
            path.with_name(f"{path.name}.part").write_bytes(b"half")
            raise KeyboardInterrupt
        done.append(examples[0]["image_id"])
        return write_shard(reader, examples, path, *args)

    monkeypatch.setattr(preparation, "write_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path, format=form, per_shard=1)
    with pytest.raises(UserError, match="is not prepared"):
        open_split(tmp_path)
    with pytest.raises(UserError, match="begun with another counts, digest; --overwrite"):
        run(source, tmp_path, format=form, per_shard=1, splits=["test"])

    def watched(reader, examples, path, *args):
        done.append(examples[0]["image_id"])
        return write_shard(reader, examples, path, *args)

    monkeypatch.setattr(preparation, "write_shard", watched)
    run(source, tmp_path, format=form, per_shard=1)
    assert done == [0, 1, 2]  # each once
    got = open_split(tmp_path)
    assert [got[i]["image_id"] for i in range(len(got))] == [0, 1, 2]
    left = {p.name for p in (tmp_path / "nocaps/1.0.0").iterdir()}
    shards = {f"nocaps-validation.array_record-{i:05}-of-00003" for i in range(3)}
    wanted = {
        "tfds": {"dataset_info.json", "features.json", "LICENSE", *shards},
        "jsonl": {"validation.jsonl", "images"},
    }
    assert left - {"report.json"} == wanted[form]
    assert not (tmp_path / "nocaps/1.0.0.incomplete").exists()


@pytest.mark.slow
def test_processes_give_the_same(source, tmp_path):
    read = []
    for workers in (0, 2):
        out = tmp_path / str(workers)
        run(source, out, workers=workers, per_shard=1)
        split = open_split(out)
        read.append([split[i] for i in range(len(split))])
    assert read[0] == read[1] and len(read[0]) == 3


def test_splits_add_up(source, tmp_path):
    for form in preparation.FORMATS:
        run(source, tmp_path / form, splits=[], format=form)
        both = open_split(tmp_path / form, "validation[1:]+test")
        assert [both[i]["image_id"] for i in range(len(both))] == [1, 2, 0]
        again = pickle.loads(pickle.dumps(both))
        assert again[2]["image"] == both[2]["image"] and again.where(2) == both.where(2)
        with pytest.raises(UserError, match="no split 'train'"):
            open_split(tmp_path / form, "train")


def test_the_newest_version_is_read(source, tmp_path, monkeypatch):
    run(source, tmp_path)
    shutil.copytree(tmp_path / "nocaps/1.0.0", tmp_path / "nocaps/1.0.0.incomplete")
    assert len(open_split(tmp_path)) == 3
    monkeypatch.setenv("PGJAX_DATA", str(tmp_path))
    spec = {"name": "prepared", "dataset": "nocaps:1.0.0", "split": "validation"}
    assert len(make_source(spec)) == 3
    with pytest.raises(UserError, match="'nocaps:2.0.0' is not prepared"):
        make_source({**spec, "dataset": "nocaps:2.0.0"})


def tar(path, members, mode):
    with tarfile.open(path, mode) as t:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            t.addfile(info, io.BytesIO(content))


def test_files_in_archives(tmp_path, capsys):
    write(tmp_path / "a/b/x.txt", "plain")
    write_zip(tmp_path / "b.zip", {"b/x.txt": "zipped", "b/y.txt": "zipped too", "b/": ""})
    tar(tmp_path / "t.tar", {"./c/z.txt": b"from a tar"}, "w")
    tar(tmp_path / "t.tgz", {"d/w.txt": b"compressed", "d/v.txt": b"v"}, "w:gz")
    files = Files(tmp_path, tmp_path / "unpacked")
    assert files["b/x.txt"].read() == b"plain"  # outside of archives first
    assert files["y.txt"].read() == b"zipped too"
    assert files["c/z.txt"].read() == b"from a tar"
    assert "decompressing" not in capsys.readouterr().err
    assert files["w.txt"].read() == b"compressed" and files.text("d/v.txt") == "v"
    assert capsys.readouterr().err.count("decompressing") == 1
    assert [m.name for m in files.glob("b/*.txt")] == ["a/b/x.txt", "b/x.txt", "b/y.txt"]
    assert pickle.loads(pickle.dumps(files["z.txt"])).read() == b"from a tar"
    missing = files["b/q.txt"]
    assert not missing and files.first("q.txt", "y.txt").read() == b"zipped too"
    with pytest.raises(DataError, match=r"b/q.txt is not among the source's files"):
        missing.read()
    write(tmp_path / "e/x.txt", "other")
    with pytest.raises(UserError, match=r"x.txt is there more than once"):
        Files(tmp_path, tmp_path / "u")["x.txt"]


def test_annotations(tmp_path):
    write(tmp_path / "a.csv", '\ufeffid,text\r\n1,"two\nlines, é"\r\n')
    write(tmp_path / "a.tsv", "id\ttext\n1\tx, y\n")
    write(tmp_path / "a.jsonl", '{"a": 1}\n\n{"a": 2}\n{')
    write(tmp_path / "a.json", "{not json")
    write(tmp_path / "code.p", pickle.dumps(np.float64(3)))
    write(tmp_path / "plain.p", pickle.dumps([{"a": (1, "é")}], protocol=2))
    files = Files(tmp_path, tmp_path / "unpacked")
    assert list(files.csv("a.csv")) == [{"id": "1", "text": "two\nlines, é"}]
    assert list(files.csv("a.tsv", delimiter="\t")) == [{"id": "1", "text": "x, y"}]
    lines = files.jsonl("a.jsonl")
    assert [next(lines), next(lines)] == [{"a": 1}, {"a": 2}]
    with pytest.raises(UserError, match="a.jsonl:4 is not JSON"):
        next(lines)
    with pytest.raises(UserError, match=r"a.json is not JSON"):
        files.json("a.json")
    assert files.pickle("plain.p") == [{"a": (1, "é")}]
    with pytest.raises(UserError, match="no pickle of plain values .*it names numpy"):
        files.pickle("code.p")


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    cells = [{"bytes": picture(i), "path": None} for i in range(5)]
    table = pa.table({"id": list(range(5)), "image": cells})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    files = Files(tmp_path, tmp_path / "unpacked")
    rows = list(files.parquet("a.parquet", later=("image",)))
    assert [row["id"] for row in rows] == list(range(5))
    assert [row["image"].read() for row in rows] == [picture(i) for i in range(5)]
    assert encoded_image(rows[3]["image"]).data == picture(3)
    with pytest.raises(UserError, match="b.parquet is not among the source's files"):
        list(files.parquet("b.parquet"))


def test_images_that_countbench_lacks_are_left_out(tmp_path):
    """A tenth of them, which its published score leaves out too."""
    import pyarrow
    from pyarrow import parquet

    images = [{"bytes": picture(0), "path": None}, None, {"bytes": picture(2), "path": None}]
    table = pyarrow.table({"number": [2, 3, 4], "image": images})
    (tmp_path / "source").mkdir()
    parquet.write_table(table, tmp_path / "source/train-00000-of-00001-cf54c241ba947306.parquet")
    questions = [{"question": "How many?"}] * 3
    write(tmp_path / "source/countbench_paired_questions.json", questions)
    report = run(tmp_path / "source", tmp_path / "data", name="countbenchqa", splits=["test"])
    assert report["splits"]["test"]["examples"] == 2
    assert report["unreadable"] == []


def test_images_become_what_the_decoder_reads():
    pixels = decode_image(picture(1, form="PNG"))
    for form in ("PNG", "BMP", "GIF", "WEBP"):
        data = picture(1, form=form)
        assert encoded_image(data).data == data
    for value in (picture(1, form="TIFF"), pixels, Image.fromarray(pixels)):
        assert np.array_equal(decode_image(encoded_image(value).data), pixels)
    with pytest.raises(DataError):
        encoded_image(b"II*\0" + bytes(40))
