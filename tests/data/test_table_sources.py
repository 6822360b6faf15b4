"""Parquet, folders of `datasets` and WebDataset tars give what the equivalent JSONL gives."""

import concurrent.futures
import json
import pickle

import numpy as np
import pytest
from table_fixture import (
    COUNT,
    examples,
    png,
    rows,
    sample_files,
    write_images,
    write_jsonl,
    write_parquet,
    write_saved,
    write_shards,
    write_tar,
)

from pgjax.data.arrow_source import ArrowSource
from pgjax.data.loader import EvalLoader, Part, TrainLoader
from pgjax.data.pipeline import Pipeline
from pgjax.data.sources import make_source
from pgjax.errors import DataError, UserError

pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pgjax"


def several(folder):
    write_parquet(folder / "b/part-1.parquet", part=slice(6), row_group_size=4)
    write_parquet(folder / "b/part-2.parquet", part=slice(6, None), row_group_size=2)
    return folder / "b/part-*.parquet"


FORMS = {  # name of the source, and what writes it into a folder
    "parquet": ("parquet", lambda f: write_parquet(f / "a.parquet")),
    "parquet, several": ("parquet", several),
    "parquet, binary": ("parquet", lambda f: write_parquet(f / "a.parquet", "binary")),
    "parquet, paths": ("parquet", lambda f: write_parquet(f / "a.parquet", "path")),
    "saved": ("datasets", lambda f: write_saved(f / "saved")),
    "saved, paths": ("datasets", lambda f: write_saved(f / "saved", "struct with paths")),
    "repository": (
        "datasets",
        lambda f: write_parquet(f / "repo/data/train-00000-of-00001.parquet").parents[1],
    ),
    "webdataset": ("webdataset", lambda f: write_shards(f / "shards")),
}


@pytest.fixture(params=FORMS)
def pair(request, tmp_path):
    """The data of a form, as arguments of its source, and the equivalent JSONL's."""
    name, write = FORMS[request.param]
    options = {"root": str(write_saved(tmp_path / "saved", "struct with paths"))}
    spec = {"name": name, "fname": str(write(tmp_path))}
    spec |= options if request.param == "saved, paths" else {}
    return spec, {"name": "jsonl", "fname": str(write_jsonl(tmp_path / "jsonl"))}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"split": "train[:30%]+train[8:]"},
        {"split": "train[:90%]", "shuffle": True, "seed": 3},
        {"split": "train[99%:]", "if_empty": "all[2:4]"},
    ],
    ids=["all", "slices", "shuffled", "if empty"],
)
def test_the_examples_of_jsonl(pair, options):
    ours, theirs = (make_source({**spec, **options}) for spec in pair)
    assert len(ours) == len(theirs) > 1
    assert [ours[i] for i in range(len(ours))] == [theirs[i] for i in range(len(theirs))]


PP = "decode|resize(8)|value_range(-1, 1)|setdefault('prefix', 'none')|keep('image', 'prefix')"


def batches(spec, first=0, workers=0):
    part = Part(make_source({**spec, "split": "train[:9]"}), Pipeline.parse(PP))
    loader = TrainLoader([part], 4, seed=5, workers=workers)
    loader.restore({"examples": 4 * first})
    with concurrent.futures.ThreadPoolExecutor(1):
        found = iter(loader)
        return [next(found)["image"] for _ in range(first, 5)]


def test_the_batches_of_jsonl_from_any_position(pair):
    ours, theirs = pair
    wanted = batches(theirs)
    np.testing.assert_array_equal(batches(ours), wanted)
    np.testing.assert_array_equal(batches(ours, first=3), wanted[3:])


def test_places_and_pickles(pair):
    source = make_source({**pair[0], "split": "all[5:]"})
    again = pickle.loads(pickle.dumps(source))
    assert [again[i] for i in range(len(again))] == [source[i] for i in range(len(source))]
    places = [source.where(i) for i in range(len(source))]
    assert [again.where(i) for i in range(len(again))] == places and len(set(places)) == COUNT - 5
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda i: source[i % 6]["image"], range(90)))
    assert read == [png(5 + i % 6) for i in range(90)]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["parquet, several", "saved", "webdataset"])
def test_worker_processes(tmp_path, form):
    name, write = FORMS[form]
    spec = {"name": name, "fname": str(write(tmp_path))}
    np.testing.assert_array_equal(batches(spec, workers=2), batches(spec))


# ---- columns -------------------------------------------------------------------------------------

NAMES = {"image": "img", "prefix": "question", "suffix": "caption"}


@pytest.mark.parametrize("name", ["jsonl", "parquet", "webdataset"])
def test_columns_of_other_names(tmp_path, name):
    if name == "jsonl":
        spec = {"fname": write_jsonl(tmp_path, NAMES), "image": "img"}
    elif name == "parquet":
        spec = {"fname": write_parquet(tmp_path / "a.parquet", names=NAMES), "image": "img"}
    else:
        files = {f"{i}.left.png": png(i) for i in range(2)}
        files |= {f"{i}.right.png": png(9) for i in range(2)}
        files |= {f"{i}.question.txt": f"prompt {i}".encode() for i in range(2)}
        files |= {f"{i}.json": b'{"caption": "answer %d", "id": %d}' % (i, i) for i in range(2)}
        files |= {f"{i}.npy": b"x" for i in range(2)}
        path = write_tar(tmp_path / "a.tar", dict(sorted(files.items())))
        spec = {"fname": path, "image": "left.png"}
    spec |= {"name": name, "fname": str(spec["fname"]), "suffix": "caption"}
    found = make_source({**spec, "prefix": "question", "split": "[1:2]", "shuffle": False})[0]
    assert found == {"image": png(1), **examples()[1]}
    for role, given in (("suffix", "captoin"), ("image", "imgs")):
        kind = DataError if name == "jsonl" else UserError
        with pytest.raises(kind, match="there is no|has no") as caught:
            make_source({**spec, role: given})[0]
        assert name == "jsonl" or f"'{NAMES[role]}'" in str(caught.value) or name == "webdataset"


def test_classes_have_names(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    classes = {"names": ["cat", "dog"], "_type": "ClassLabel"}
    features = {
        "label": classes,
        "tags": {"feature": classes, "_type": "List"},
        "objects": {"feature": {"category": classes, "n": {"dtype": "int64"}}, "_type": "Sequence"},
        "n": {"dtype": "int64", "_type": "Value"},
    }
    objects = {"category": [1, 0], "n": [1, 0]}
    table = [{"image": png(0), "label": 1, "tags": [0, 1], "objects": objects, "n": 1}]
    table.append({**table[0], "label": -1, "tags": [], "objects": None})
    info = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(
        pa.Table.from_pylist(table).replace_schema_metadata(info), tmp_path / "a.parquet"
    )
    source = ArrowSource(str(tmp_path / "a.parquet"), suffix="label")
    named = {"category": ["dog", "cat"], "n": [1, 0]}
    assert source[0] == {
        "image": png(0), "suffix": "dog", "tags": ["cat", "dog"], "objects": named, "n": 1,
    }  # fmt: skip
    assert source[1] == {"image": png(0), "suffix": -1, "tags": [], "n": 1}


# ---- folders -------------------------------------------------------------------------------------

SHARDS = "data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"


@pytest.mark.parametrize(
    ("files", "split", "count"),
    [
        (SHARDS, "train", 4),
        (SHARDS, "validation", 7),
        (SHARDS, "validation[:2]+train[-1:]", 3),
        (SHARDS, "all[:5]", 5),
        (("train.parquet", "test-split.parquet"), "test", 7),
        (("training/0.parquet", "dev/0.parquet"), "validation", 7),
        (("x/1.0/a-train.parquet", "x/1.0/cache-1234.parquet"), "train", 4),
        (("en/data/train-00000-of-00001.parquet",), "train", 4),
        (("data/minival-00000-of-00001.parquet",), "minival", 4),
        (("one.parquet", "two.parquet"), "train", 11),
    ],
)
def test_splits_of_a_folder(tmp_path, files, split, count):
    for file, part in zip(files, (slice(4), slice(4, None)), strict=False):
        write_parquet(tmp_path / "set" / file, part=part)
    source = ArrowSource(str(tmp_path / "set"), split)
    assert len(source) == count
    ids = [source[i]["id"] for i in range(count)]
    shuffled = ArrowSource(str(tmp_path / "set"), split, shuffle=True)
    if "[" not in split:  # a random order stays within the split
        assert sorted(shuffled[i]["id"] for i in range(count)) == ids


def test_splits_that_were_saved(tmp_path):
    for name in ("train", "test"):
        write_saved(tmp_path / name, cuts=() if name == "test" else (3, 5))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    source = ArrowSource(str(tmp_path), "test[:2]+train[10:]")
    assert [source[i]["id"] for i in range(len(source))] == [0, 1, 10]
    with pytest.raises(UserError, match="'val' is not understood; expected all or train or test"):
        ArrowSource(str(tmp_path), "val")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("en/train.parquet", "de/train.parquet"), r"holds the data sets \['de', 'en'\]; give"),
        (("train.parquet", "other.parquet"), "other.parquet belongs to none"),
        ((), r"holds no file \.parquet or \.arrow"),
    ],
)
def test_folders_that_are_not_clear(tmp_path, files, message):
    (tmp_path / "set").mkdir()
    for file in files:
        write_parquet(tmp_path / "set" / file)
    with pytest.raises(UserError, match=message):
        ArrowSource(str(tmp_path / "set"))


@pytest.mark.parametrize("form", ["path", "struct with paths"])
def test_rows_about_one_image_stay_together(tmp_path, form):
    import pyarrow as pa

    write_images(tmp_path)
    table = pa.Table.from_pylist([r for r in rows(form) for _ in range(3)])
    with (
        pa.OSFile(str(tmp_path / "a.arrow"), "wb") as f,
        pa.ipc.new_file(f, table.schema) as writer,
    ):
        writer.write_table(table, 5)
    parts = [
        ArrowSource(str(tmp_path / "a.arrow"), split, shuffle=True)
        for split in ("train[:18]", "train[18:]")
    ]
    first, second = ({part[i]["id"] for i in range(len(part))} for part in parts)
    assert len(first) == 6 and not first & second


# ---- large groups of rows ------------------------------------------------------------------------


def test_a_large_group_of_rows_is_copied_once(tmp_path, monkeypatch, capsys, cache):
    monkeypatch.setattr("pgjax.data.arrow_files.MOST_BYTES", 1000)
    path = write_parquet(tmp_path / "a.parquet")
    small = write_parquet(tmp_path / "b.parquet", row_group_size=1, part=slice(1))
    source = ArrowSource(str(tmp_path / "*.parquet"))
    assert "is copied to" in capsys.readouterr().err
    assert [source[i]["id"] for i in range(COUNT)] == [*range(COUNT)]
    assert source.where(COUNT) == f"{small}:0" and source[COUNT]["image"] == png(0)
    again = ArrowSource(str(path))
    assert capsys.readouterr().err == "" and again[3] == source[3]
    write_parquet(path, part=slice(2))  # another version of the file
    assert len(ArrowSource(str(path))) == 2
    assert len(list(cache.glob("arrow/*.arrow"))) >= 2 and not list(cache.glob("arrow/*.part"))


# ---- hostile files -------------------------------------------------------------------------------


def damaged(path, change):
    path.write_bytes(change(path.read_bytes()))
    return path


def half(data):
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: damaged(write_parquet(f / "a.parquet"), half), "a.parquet cannot be read"),
        (lambda f: damaged(write_parquet(f / "a.parquet"), lambda _: b""), "cannot be read"),
        (lambda f: write_jsonl(f).rename(f / "b.parquet"), "b.parquet cannot be read"),
        (lambda f: write_jsonl(f), r"is no file \.parquet or \.arrow; expected such files"),
        (lambda f: f / "none.parquet", r"none.parquet cannot be read \(No such file"),
        (lambda f: f / "{0..3}.parquet", r"0.parquet cannot be read \(No such file"),
        (lambda f: f / "{9..3}.parquet", r"\{9\.\.3\} is no range"),
        (lambda f: write_parquet(f / "a.parquet", part=slice(0)), "holds no row"),
        (lambda f: write_parquet(f / "a.parquet", names=NAMES), "no 'image', .* is 'img'"),
        (lambda f: "", "fname is empty"),
    ],
)  # fmt: skip
def test_damaged_tables(tmp_path, make, message):
    with pytest.raises(UserError, match=message) as caught:
        ArrowSource(str(make(tmp_path)))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "data-00001-of-00003.arrow").unlink(), "00001.* cannot be read"),
        (lambda f: damaged(f / "data-00001-of-00003.arrow", half), "00001.* cannot be read"),
        (lambda f: (f / "state.json").write_text("{"), "state.json cannot be read"),
        (lambda f: (f / "state.json").write_text("{}"), "names no _data_files"),
        (
            lambda f: (f / "state.json").write_text('{"_indices_data_files": [{}]}'),
            "flatten_indices",
        ),
    ],
)
def test_damaged_folders(tmp_path, change, message):
    change(write_saved(tmp_path / "saved"))
    with pytest.raises(UserError, match=message):
        ArrowSource(str(tmp_path / "saved"))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "the row has no 'image'"),
        ("../secret.png", "is absolute or leaves"),
        ("/etc/passwd", "is absolute or leaves"),
        ("gone.png", r"gone\.png cannot be read \(No such file"),
        (7, "'image' is a int, expected a path"),
        ({"bytes": None, "path": None}, "'image' is a NoneType, expected a path"),
    ],
)
def test_rows_whose_image_cannot_be_read(tmp_path, image, message):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"image": image, "suffix": "x"}]), path)
    with pytest.raises(DataError, match=message):
        ArrowSource(str(path))[0]
    loader = EvalLoader(Part(ArrowSource(str(path)), lambda e, rng: e), 1, threads=0)
    with pytest.raises(DataError, match=rf"^{path}:0: "):
        next(iter(loader))


# ---- WebDataset ----------------------------------------------------------------------------------


def web(fname, **options):
    return make_source({"name": "webdataset", "fname": str(fname), **options})


def test_the_index_of_a_tar_is_made_once(tmp_path, monkeypatch, cache):
    pattern = write_shards(tmp_path)
    source = web(pattern)
    assert len(list(cache.glob("tar/*.npz"))) == 3
    with monkeypatch.context() as patched:
        patched.setattr("pgjax.data.tar_index._build", None)
        again = web(pattern)
    assert [again[i] for i in range(COUNT)] == [source[i] for i in range(COUNT)]
    assert again.where(4) == f"{tmp_path / '001.tar'}:photos/004"
    for kept in cache.glob("tar/*.npz"):
        damaged(kept, half)
    assert web(pattern)[0] == source[0]
    write_tar(tmp_path / "000.tar", sample_files(5, examples()[5]))  # another version of the tar
    assert len(web(pattern)) == COUNT - 3
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert web(pattern)[0]["id"] == 5


def test_what_is_no_sample_is_passed_over(tmp_path):
    row = examples()[1]
    files = {
        "._a.jpg": b"of macOS", "README": b"x", ".hidden": b"x",
        **sample_files(1, row), "z/no_image.txt": b"x",
    }  # fmt: skip
    long = {f"{'long/' * 60}{name}": data for name, data in sample_files(2, row).items()}
    source = web(write_tar(tmp_path / "a.tar", files | long))
    assert len(source) == 3
    assert source[0] == {"image": png(1), **row} and source[2]["image"] == png(2)
    with pytest.raises(DataError, match=r"has \['txt'\], expected one image"):
        source[1]
    assert source.where(1) == f"{tmp_path / 'a.tar'}:z/no_image"


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar.gz", "gz"), ("a.tar", "gz"), ("a.tar.bz2", "bz2"), ("a.tar", "xz")]
)
def test_compressed_tars_are_refused(tmp_path, name, mode):
    import tarfile

    plain = write_tar(tmp_path / "plain.tar", sample_files(1, examples()[1]))
    with tarfile.open(tmp_path / name, f"w:{mode}") as tar:
        tar.add(plain)
    with pytest.raises(UserError, match="is compressed by .*, expected a tar .* first by `.*`"):
        web(tmp_path / name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: damaged(f / "a.tar", lambda data: data[:900]), "is not a tar that can be read"),
        (lambda f: damaged(f / "a.tar", lambda data: data[:1536]), "is cut short"),
        (lambda f: damaged(f / "a.tar", lambda _: b""), "is not a tar|holds no sample"),
        (lambda f: damaged(f / "a.tar", lambda _: b"x" * 4096), "is not a tar that can be read"),
        (lambda f: write_tar(f / "a.tar", {}), "holds no sample"),
        (
            lambda f: write_tar(f / "a.tar", {"0.png": b"", "1.png": b"", "0.txt": b""}),
            "the files of '0' do not lie together",
        ),
    ],
)
def test_damaged_tars(tmp_path, make, message):
    write_tar(tmp_path / "a.tar", sample_files(1, examples()[1]))
    make(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        web(tmp_path / "a.tar")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"0.png": b"", "0.json": b"{"}, "json cannot be read"),
        ({"0.png": b"", "0.json": b"[1]"}, "json is a list, expected an object"),
        ({"0.png": b"", "0.txt": b"\xff"}, "txt cannot be read"),
        ({"0.png": b"", "0.jpg": b""}, r"\['jpg', 'png'\], expected one image"),
    ],
)
def test_samples_that_cannot_be_read(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        web(write_tar(tmp_path / "a.tar", files))[0]


def test_remote_tars_and_tables(tmp_path):
    import fsspec

    bucket = fsspec.filesystem("memory")
    try:
        for n in range(3):
            write_shards(tmp_path)
            bucket.pipe(f"/shards/{n:03}.tar", (tmp_path / f"{n:03}.tar").read_bytes())
        table = write_parquet(tmp_path / "a.parquet", row_group_size=3)
        bucket.pipe("/t/a.parquet", table.read_bytes())
        for source in (
            web("memory://shards/{000..002}.tar"),
            web("memory://shards/*.tar"),
            ArrowSource("memory://t/*.parquet"),
        ):
            assert [source[i]["id"] for i in range(len(source))] == [*range(COUNT)]
    finally:
        bucket.store.clear()
        bucket.pseudo_dirs[:] = [""]


def test_names_of_columns_that_are_not_utf8(tmp_path):
    import pyarrow as pa

    path = tmp_path / "train.arrow"
    table = pa.table({"image": ["a.png"], "lettering": ["x"]})
    with pa.OSFile(str(path), "wb") as f, pa.ipc.new_stream(f, table.schema) as writer:
        writer.write_table(table)
    path.write_bytes(path.read_bytes().replace(b"lettering", b"letter\xdcng"))
    with pytest.raises(UserError, match=r"train\.arrow cannot be read \(.*utf-8"):
        make_source({"name": "parquet", "fname": str(path)})
