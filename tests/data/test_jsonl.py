import base64
import concurrent.futures
import io
import json
import pickle

import fsspec
import numpy as np
import pytest

from pgjax.data.jsonl import JsonlSource, _index
from pgjax.data.loader import EvalLoader, Part
from pgjax.data.sources import make_source
from pgjax.errors import DataError, UserError


@pytest.fixture
def folder(tmp_path):
    """A root with images, and a file outside it."""
    root = tmp_path / "root"
    (root / "images").mkdir(parents=True)
    for i in range(3):
        (root / "images" / f"{i}.jpg").write_bytes(b"image %d" % i)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return root


def write(folder, *lines, name="data.jsonl"):
    path = folder / name
    path.write_bytes(
        b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines)
    )
    return str(path)


def one(folder, example, **kwargs):
    return JsonlSource(write(folder, example), **kwargs)[0]


# ---- the index -----------------------------------------------------------------------------------


def test_blank_lines_bom_crlf_and_no_last_newline(folder):
    lines = [
        b'\xef\xbb\xbf{"image": "images/0.jpg", "n": 1}\r',
        b"\r",
        b"  \t \x0c",
        '{"image": "images/1.jpg", "n": 4, "text": "Grüße 🌍"}\r'.encode(),
        b"",
        b'  {"image": "images/2.jpg", "n": 6}',
    ]
    source = JsonlSource(write(folder, *lines))
    assert len(source) == 3
    assert [source[i]["n"] for i in range(3)] == [1, 4, 6]
    assert [source.where(i).rsplit(":", 1)[1] for i in range(3)] == ["1", "4", "6"]
    assert source[1] == {"image": b"image 1", "n": 4, "text": "Grüße 🌍"}


def test_index_of_a_long_file_takes_12_bytes_a_line():
    lines = [b'{"n": %d}\n' % i if i % 10 else b"\n" for i in range(200_000)]
    data = b"".join(lines)
    ends, numbers, _ = _index(io.BytesIO(data))
    assert len(ends) == len(numbers) == 180_000
    assert ends.nbytes + numbers.nbytes == 12 * 180_000
    for k in np.random.default_rng(0).integers(1, 180_000, 50):
        record = json.loads(data[ends[k - 1] : ends[k]])
        assert record["n"] + 1 == numbers[k]


def test_index_streams(monkeypatch):
    monkeypatch.setattr("pgjax.data.jsonl._CHUNK", 100)

    class Stream(io.BytesIO):
        largest = 0

        def readlines(self, hint=-1):
            lines = super().readlines(hint)
            self.largest = max(self.largest, sum(map(len, lines)))
            return lines

    stream = Stream(b'{"a": 1}\n' * 1000)
    ends, _, _ = _index(stream)
    assert list(ends) == list(range(9, 9001, 9))
    assert stream.largest < 200


def test_split(folder):
    fname = write(folder, *({"image": "images/0.jpg", "n": n} for n in range(10)))
    source = JsonlSource(fname, split="train[:2]+train[-20%:]")
    assert [source[i]["n"] for i in range(len(source))] == [0, 1, 8, 9]
    assert source.where(2) == f"{fname}:9"
    with pytest.raises(
        UserError, match=r"data.jsonl: split 'train\[:99\]'.* beyond the 10 records"
    ):
        JsonlSource(fname, split="train[:99]")


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\r\n"])
def test_empty_file(folder, content):
    with pytest.raises(UserError, match=r"data.jsonl holds no example"):
        JsonlSource(write(folder, content))


def test_missing_file(folder):
    with pytest.raises(UserError, match=r"nope.jsonl cannot be read \(No such file or directory\)"):
        JsonlSource(str(folder / "nope.jsonl"))
    with pytest.raises(UserError, match="cannot be read"):
        JsonlSource("memory://nope/nope.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        JsonlSource("nosuch://bucket/nope.jsonl")
    with pytest.raises(UserError, match="fname is empty"):
        JsonlSource("")


# ---- images --------------------------------------------------------------------------------------


def test_image_relative_to_file_or_root(folder, tmp_path, monkeypatch):
    assert one(folder, {"image": "images/1.jpg"})["image"] == b"image 1"
    assert one(folder, {"image": "images/../images/1.jpg"})["image"] == b"image 1"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    fname = write(elsewhere, {"image": "images/2.jpg"})
    assert JsonlSource(fname, root=str(folder))[0]["image"] == b"image 2"
    monkeypatch.chdir(folder)
    write(folder, {"image": "images/0.jpg"}, name="here.jsonl")
    assert JsonlSource("here.jsonl")[0]["image"] == b"image 0"


def test_several_images(folder):
    assert one(folder, {"image": ["images/1.jpg", "images/0.jpg"]})["image"] == [
        b"image 1",
        b"image 0",
    ]


def test_inline_images_and_other_keys(folder):
    text = base64.encodebytes(bytes(range(200))).decode()  # with line breaks
    others = {"suffix": ["a", "b"], "id": 7, "boxes": [[0, 0, 1, 1]], "none": None, "index": "x"}
    expected = {"image": bytes(range(200)), **others}
    assert one(folder, {"image_base64": text, **others}) == expected
    assert one(folder, {"image": f"data:image/png;base64,{text}", **others}) == expected


@pytest.mark.parametrize("kind", ["absolute", "dots", "link", "link folder", "url"])
def test_outside_root_needs_permission(folder, tmp_path, kind):
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "up").symlink_to(tmp_path)
    value = {
        "absolute": str(tmp_path / "secret.jpg"),
        "dots": "images/../../secret.jpg",
        "link": "link.jpg",
        "link folder": "up/secret.jpg",
        "url": f"file://{tmp_path}/secret.jpg",
    }[kind]
    with pytest.raises(DataError, match="is absolute or leaves .*allow_outside_root=True allows"):
        one(folder, {"image": value})
    with pytest.raises(DataError, match="is absolute or leaves"):
        one(folder, {"image": ["images/0.jpg", value]})
    assert one(folder, {"image": value}, allow_outside_root=True)["image"] == b"secret"


def test_link_within_the_root_and_a_root_that_is_a_link(folder, tmp_path):
    (folder / "link.jpg").symlink_to(folder / "images" / "0.jpg")
    assert one(folder, {"image": "link.jpg"})["image"] == b"image 0"
    (tmp_path / "alias").symlink_to(folder)
    assert one(tmp_path / "alias", {"image": "images/1.jpg"})["image"] == b"image 1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"image": }', r"the line is not JSON \(Expecting value at column 11\)"),
        (b'{"image": "\xff"}', "the line is not JSON .*utf-8"),
        (b"[1, 2]", "the line holds a list, expected an object with an 'image'"),
        ({"prefix": "x", "id": 1}, r"no 'image', it has \['id', 'prefix'\]"),
        ({"image": 5}, "'image' is a int, expected a path"),
        ({"image": [None]}, "'image' is a NoneType, expected a path"),
        ({"image": "images/9.jpg"}, r"image .*images/9.jpg cannot be read \(No such file"),
        ({"image": "images"}, r"image .*images cannot be read \(Is a directory"),
        ({"image_base64": "a!b"}, "the inline image is not base64"),
        ({"image_base64": 3}, "the inline image is not base64"),
        ({"image": "data:image/svg+xml,<svg/>"}, "expected data:…;base64,…"),
    ],
)
def test_messages_name_file_and_line(folder, line, message):
    fname = write(folder, {"image": "images/0.jpg"}, b"", line)
    with pytest.raises(DataError, match=message):
        JsonlSource(fname)[1]
    loader = EvalLoader(Part(JsonlSource(fname, split="[1:]"), _pass), 1, threads=0)
    with pytest.raises(DataError, match=f"^{fname}:3: .*{message}"):
        next(iter(loader))


def _pass(example, rng):
    return example


# ---- remote, pickled, shared ---------------------------------------------------------------------


@pytest.fixture
def bucket():
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


@pytest.mark.parametrize("place", ["", "data/v1/"])
def test_remote(bucket, place):
    records = [b'{"image": "images/%d.jpg", "n": %d}\n' % (i, i) for i in range(3)]
    bucket.pipe(f"/{place}data.jsonl", b"\n".join(records))
    for i in range(3):
        bucket.pipe(f"/{place}images/{i}.jpg", b"remote %d" % i)
    source = JsonlSource(f"memory://{place}data.jsonl", split="[1:]")
    assert [source[i] for i in range(2)] == [
        {"image": b"remote 1", "n": 1},
        {"image": b"remote 2", "n": 2},
    ]
    assert source.where(1) == f"memory://{place}data.jsonl:5"


def test_remote_images_of_a_local_file_and_escapes(bucket, folder):
    bucket.pipe("/images/0.jpg", b"remote")
    bucket.pipe("/data/sub/data.jsonl", b'{"image": "../../images/0.jpg"}')
    fname = write(folder, {"image": "images/0.jpg"})
    assert JsonlSource(fname, root="memory://")[0]["image"] == b"remote"
    whole = write(folder, {"image": "memory://images/0.jpg"}, name="whole.jsonl")
    with pytest.raises(DataError, match="is absolute"):
        JsonlSource(whole)[0]
    assert JsonlSource(whole, allow_outside_root=True)[0]["image"] == b"remote"
    with pytest.raises(DataError, match="leaves"):
        JsonlSource("memory://data/sub/data.jsonl")[0]


def test_only_the_line_travels(bucket, monkeypatch):
    bucket.pipe("/d.jsonl", b'{"image_base64": "AAAA"}\n' * 100)
    source = JsonlSource("memory://d.jsonl")
    read = []
    cat = type(bucket).cat_file

    def counted(self, path, *args, **kwargs):
        read.append(len(data := cat(self, path, *args, **kwargs)))
        return data

    monkeypatch.setattr(type(bucket), "cat_file", counted)
    assert source[50]["image"] == b"\0\0\0"
    assert read == [25]


def test_pickles(folder):
    source = JsonlSource(write(folder, *({"image": f"images/{i}.jpg"} for i in range(3))), "[1:]")
    again = pickle.loads(pickle.dumps(source))
    assert [again[i] for i in range(2)] == [source[i] for i in range(2)]
    assert again.where(1) == source.where(1)


def test_threads(folder):
    fname = write(folder, *({"image": f"images/{n % 3}.jpg", "n": n} for n in range(300)))
    source = JsonlSource(fname)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for n, example in enumerate(pool.map(source.__getitem__, range(300))):
            assert example == {"image": b"image %d" % (n % 3), "n": n}


def test_make_source(folder):
    fname = write(folder, {"image": "images/0.jpg"})
    assert len(make_source({"name": "jsonl", "fname": fname})) == 1
    with pytest.raises(UserError, match=r"'jsonl': .* argument 'splt'; it takes \(fname"):
        make_source({"name": "jsonl", "fname": fname, "splt": "all"})
    with pytest.raises(UserError, match="'jsnl' is not a known data source; did you mean 'jsonl'"):
        make_source({"name": "jsnl"})
    with pytest.raises(UserError, match="None is not a known data source; expected one of .*jsonl"):
        make_source({})
