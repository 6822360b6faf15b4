"""What is wrong with a data set is found, and nothing else is said."""

import json

import numpy as np
import pytest
from conftest import PHOTOS
from PIL import Image

from pgjax.data.inspection import check_set, describe
from pgjax.data.sources import make_source
from pgjax.text.tokenizer import Tokenizer

PP = "decode|resize(32)|value_range(-1, 1)|for_training({}, on_truncate='truncate')"


def check(folder, lines, text_len=64, **options):
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = make_source({"name": "jsonl", "fname": str(folder / "data.jsonl")})
    options = {"most": 0, **options}
    return check_set("train", source, PP.format(text_len), Tokenizer.tiny(), **options)


@pytest.fixture
def photos(tmp_path):
    for i in range(6):
        pixels = np.full((20 + i, 40, 3), 40 * i, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return tmp_path


def test_all_is_well(photos):
    lines = [
        {"image": f"{i}.png", "prefix": "caption en", "suffix": "red", "id": i} for i in range(6)
    ]
    found = check(photos, lines, out=photos / "out")
    tokenizer = Tokenizer.tiny()
    prompt = len(tokenizer.encode("caption en", bos=True)) + 1
    assert found["height"] == {"min": 20, "median": 22.5, "p95": 24.8, "max": 25}
    assert found["width"]["min"] == found["width"]["max"] == 40
    assert found["prompt"]["min"] == found["prompt"]["max"] == prompt
    assert found["target"]["max"] == len(tokenizer.encode("red", eos=True))
    assert (found["examples"], found["looked_at"], found["images"]) == (6, 6, [1])
    assert [found[k]["count"] for k in ("unreadable", "unlearned", "cut", "twice")] == [0] * 4
    assert len(list(describe(found))) == 6
    with Image.open(photos / "out/train.png") as sheet:
        colors = np.array([color for _, color in sheet.convert("L").getcolors()])
    for i in range(6):  # all six images are on it
        assert abs(colors - 40 * i).min() <= 1
    assert check(photos, lines, most=2)["looked_at"] == 2


def test_what_is_wrong(photos):
    (photos / "2.png").write_bytes((photos / "2.png").read_bytes()[:60])
    long = "a red circle and a blue square " * 4
    lines = [
        {"image": "0.png", "prefix": "caption en", "suffix": long, "id": 0},
        {"image": "1.png", "prefix": long, "suffix": "red", "id": 1},
        {"image": "2.png", "prefix": "caption en", "suffix": "red", "id": 2},
        {"image": "9.png", "prefix": "caption en", "suffix": "red", "id": 3},
        {"image": "4.png", "prefix": "caption en", "suffix": 3, "id": 4},
        {"image": "5.png", "prefix": "caption en", "suffix": "red", "id": 0},
    ]
    found = check(photos, lines, text_len=24)
    place = f"{photos}/data.jsonl"
    assert found["cut"] == {"count": 2, "examples": [f"{place}:1", f"{place}:2"]}
    assert found["unlearned"] == {"count": 1, "examples": [f"{place}:2"]}
    assert found["twice"] == {"count": 1, "examples": ["0"]}
    assert found["unreadable"]["count"] == 3
    for said, (line, reason) in zip(
        found["unreadable"]["examples"],
        ((3, "the image is damaged"), (4, "9.png cannot be read"), (5, "the suffix is a int")),
        strict=True,
    ):
        assert said.startswith(f"{place}:{line}: ") and reason in said
    assert len(list(describe(found))) == 10


@pytest.mark.slow
def test_command(command, tmp_path):
    args = ["-m", "pgjax", "check-data", "--config=forkme:variant=tiny", f"--out={tmp_path}"]
    done = command(*args, f"--config.input.data.fname={PHOTOS / 'photos.jsonl'}")
    assert "train:\n  " in done.stdout and "answers:\n" in done.stdout
    assert {p.name for p in tmp_path.iterdir()} == {
        "report.json", "train.png", "val.png", "answers.png",
    }  # fmt: skip
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"image": "nope.png", "suffix": "x"}\n' * 20)
    done = command(*args, f"--config.input.data.fname={bad}", check=False)
    assert done.returncode == 3 and "18 cannot be read" in done.stdout


def test_what_looks_like_tokens(photos):
    texts = [
        "<loc0001><loc1023> <seg000> <seg127> x < 3 <a>",
        "<loc1024>", "<loc12>", "<seg128>", "an <image>", "<eos>", "<loc>", "<loc99999>",
    ]  # fmt: skip
    lines = [{"image": "0.png", "prefix": "detect", "suffix": text} for text in texts]
    lines.append({"image": "0.png", "prefix": "<image>caption", "suffix": "x"})
    found = check(photos, lines)
    place = f"{photos}/data.jsonl"
    assert found["unknown"]["count"] == len(lines) - 1
    assert found["unknown"]["examples"][:2] == [f"{place}:2: <loc1024>", f"{place}:3: <loc12>"]
    assert any("read as ordinary text" in line for line in describe(found))


@pytest.mark.parametrize(
    ("values", "twice"),
    [
        ([{"image_id": 1}, {"image_id": 1}], []),  # two captions of one image
        ([{"video_id": 1}, {"video_id": 1}], []),
        ([{"question_id": 1, "image_id": 1}, {"question_id": 1, "image_id": 2}], ["1"]),
        ([{"id": [1, {}]}, {"id": [1, {}]}], ["[1, {}]"]),
        ([{"id": None}, {"id": None}], []),
        ([{"id": 1}, {"id": "1"}], ["1"]),
    ],
)
def test_ids(photos, values, twice):
    lines = [{"image": "0.png", "prefix": "p", "suffix": "s", **value} for value in values]
    assert check(photos, lines)["twice"]["examples"] == twice


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"suffix": None}, "the suffix is null, expected one string"),
        ({"suffix": ["a"]}, "the suffix is a list"),
        ({"prefix": None}, "prefix is a NoneType"),
        ({"suffix": "a \ud800 b"}, "suffix holds half of a surrogate pair"),
        ({"image": "\ud800.png"}, r"\ud800"),
        ({"image": "a\0.png"}, "is no path"),
    ],
)
def test_lines_that_cannot_be_used(photos, line, reason):
    found = check(photos, [{"image": "0.png", "prefix": "p", "suffix": "s", **line}])
    assert found["unreadable"]["count"] == 1, found
    (said,) = found["unreadable"]["examples"]
    assert reason in said
    said.encode()  # can be written


@pytest.mark.parametrize("policy", ["error", "drop", "truncate"])
def test_what_ends_training_ends_the_check(photos, program, policy):
    lines = [{"image": "0.png", "suffix": "red circle " * 200}] * 8
    (photos / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pp = "decode|resize(64)|value_range(-1,1)|setdefault('prefix','p')|"
    pp += f"for_training(64, on_truncate='{policy}')"
    args = ("--config=forkme:variant=tiny", f"--config.input.data.fname={photos}/data.jsonl")
    more = [f"--config.evals.val.pp={pp}", f"--config.input.pp={pp}"]
    said = program("check-data", *args, *more, status=3 if policy == "error" else 0)
    assert ("which ends training" in said.out) == (policy == "error")
