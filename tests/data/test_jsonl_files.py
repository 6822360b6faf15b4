"""Files that are not what was expected, splits at random, and files of a few lines."""

import gzip
import json

import pytest
from PIL import Image

from pgjax.data.jsonl import JsonlSource
from pgjax.errors import DataError, UserError

PINNED = [32, 50, 11, 5, 77, 9, 95, 73, 74, 27]  # the last tenth of 100 lines with seed 0


def write(folder, lines, name="data.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            gzip.compress(b'{"image": "a.png"}\n', mtime=0),
            r"compressed by gzip.*gunzip -k .*data\.jsonl",
        ),
        (b"\x28\xb5\x2f\xfd....", r"compressed by Zstandard.*zstd -d "),
        ('{"image": "a.png"}\n'.encode("utf-16"), "in UTF-16.*iconv "),
        (b"PAR1....", "a parquet file.* data.name=parquet reads it"),
        (b"", "holds no example"),
        (b"\n \n", "holds no example"),
    ],
)
def test_other_files(tmp_path, data, problem):
    path = tmp_path / "data.jsonl"
    path.write_bytes(data)
    with pytest.raises(UserError, match=problem):
        JsonlSource(str(path))


def test_a_byte_order_mark_and_windows_paths(folder):
    text = '\ufeff{"image": "sub\\\\b.png"}\r\n{"image": "a.png"}\r\n'
    (folder / "data.jsonl").write_text(text)
    source = JsonlSource(str(folder / "data.jsonl"))
    assert len(source) == 2 and source[0]["image"][:4] == source[1]["image"][:4] == b"\x89PNG"


def test_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    write(folder, [{"image": "b.png"}])
    assert JsonlSource("~/data.jsonl", root="~/sub")[0]["image"]


@pytest.mark.parametrize(
    "image", ["a\0.png", "\ud800.png", "x" * 5000, "", ".", "sub", "..\\a.png"]
)
@pytest.mark.parametrize("outside", [False, True])
def test_paths_that_are_none(folder, image, outside):
    source = JsonlSource(write(folder, [{"image": image}]), allow_outside_root=outside)
    with pytest.raises(DataError, match="image") as caught:
        source[0]
    str(caught.value).encode()


def lines_of(source):
    return [source._picked[i] for i in range(len(source))]


def sorted_file(folder, count=100, per_image=1):
    """A file that is sorted by class, several lines about each image."""
    (folder / "many").mkdir(exist_ok=True)
    return write(folder, [{"image": f"many/{i // per_image}.png", "n": i} for i in range(count)])


def test_a_random_split_is_a_function_of_file_and_seed(folder):
    path = sorted_file(folder)
    parts = {"train": "train[:90%]", "val": "train[90%:]"}
    found = {k: lines_of(JsonlSource(path, v, shuffle=True)) for k, v in parts.items()}
    assert sorted(found["train"] + found["val"]) == list(range(100))
    assert found["val"] == lines_of(JsonlSource(path, parts["val"], shuffle=True, seed=0))
    assert found["val"] != lines_of(JsonlSource(path, parts["val"], shuffle=True, seed=1))
    assert min(found["val"]) < 50 < max(found["val"])  # not the last ones
    # Pinned: a new version must not move examples between the splits of old runs.
    assert found["val"] == PINNED
    assert lines_of(JsonlSource(path, parts["val"])) == list(range(90, 100))


def test_lines_about_one_image_stay_together(folder):
    path = sorted_file(folder, count=300, per_image=3)
    train = lines_of(JsonlSource(path, "train[:90%]", shuffle=True))
    held = lines_of(JsonlSource(path, "train[90%:]", shuffle=True))
    assert sorted(train + held) == list(range(300))
    assert not {i // 3 for i in train} & {i // 3 for i in held}


def test_lines_without_or_with_other_images(folder):
    lines = [
        {"image_base64": "aaaa"}, {"image": ["a.png", "sub/b.png"]}, {"n": 1}, {"n": 2},
        {"image_base64": "aaaa"}, {"image": 'q"uo\\te.png'},
    ]  # fmt: skip
    order = lines_of(JsonlSource(write(folder, lines), shuffle=True))
    assert sorted(order) == list(range(6)) and order.index(4) - order.index(0) == 1


@pytest.mark.parametrize("count", range(1, 8))
def test_few_lines(folder, capsys, count):
    path = sorted_file(folder, count)
    options = {"shuffle": True}
    train = JsonlSource(path, "train[:90%]", **options)
    held = JsonlSource(path, "train[90%:]", if_empty="all", **options)
    assert len(train) == round(0.9 * count)
    assert len(held) == (count - len(train) or count)
    assert ("'all' is used" in capsys.readouterr().err) == (len(train) == count)
    if len(train) == count:
        with pytest.raises(UserError, match=r"data\.jsonl: split 'train\[90%:\]' .* is empty"):
            JsonlSource(path, "train[90%:]", **options)


@pytest.mark.parametrize(
    "split",
    ["train[:" + "9" * 5000 + "]", "train[" + "9" * 5000 + "%:]", "train[:0." + "0" * 99 + "%]",
     "train[:٣]", "+" * 5000],
)  # fmt: skip
def test_splits_of_many_digits(folder, split):
    with pytest.raises(UserError, match="split"):
        JsonlSource(sorted_file(folder), split)
