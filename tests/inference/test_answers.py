"""Answers that were cut off, stop texts, prompts of other libraries, and images in many forms."""

import base64
import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from PIL import Image

import pgjax
from pgjax.data.given_images import orientation, read_given
from pgjax.data.scenes import SceneSource
from pgjax.errors import DataError, UserError
from pgjax.inference.answer import held_back, read_answer
from pgjax.inference.detections import scored_boxes
from pgjax.inference.generation import token_masks
from pgjax.inference.prompts import answer_length, clean_prompt
from pgjax.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.tiny()
ARRAY = np.arange(12 * 10 * 3, dtype=np.uint8).reshape(12, 10, 3)


@pytest.fixture(scope="module")
def model():
    return pgjax.load("tiny")


@pytest.fixture(scope="module")
def scene():
    return SceneSource("model_test", tasks=("caption",), max_shapes=1, wording="pt")[0]


def answered(text, stop=(), eos=True, room=0):
    ids = TOKENIZER.encode(text, eos=eos)
    tokens = np.array(ids + [0] * room, np.int32)
    return read_answer(TOKENIZER, tokens, -np.ones(len(tokens), np.float32), stop)


# ---- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "stop", "want"),
    [
        ("a red circle", ("red",), "a "),
        ("a red circle", (" red",), "a"),
        ("a red circle", ("red circle",), "a "),
        ("a red circle", ("circle", "red"), "a "),
        ("red", ("red",), ""),
        ("a red\ncircle", ("\n",), "a red"),
        ("a red circle", ("blue",), "a red circle"),
        ("a red circle", ("d c",), "a re"),
        ("größer — größt", ("größt",), "größer — "),
    ],
)
def test_stop_is_found_in_the_text(text, stop, want):
    answer = answered(text, stop, room=5)
    assert answer.text == want and answer.ended
    if want != text:  # the tokens reach to the one that completes the stop text, and no further
        assert any(one in TOKENIZER.decode(answer.tokens.tolist()) for one in stop)
        assert not any(one in TOKENIZER.decode(answer.tokens[:-1].tolist()) for one in stop)
        assert len(answer.tokens) == len(answer.logprobs)


def test_what_did_not_end_says_so():
    assert answered("a red circle").ended
    cut = answered("a red", eos=False)
    assert cut.truncated and not cut.ended and "cut off" in repr(cut)
    assert answered("a red", ("red",), eos=False).ended
    assert not answered("", eos=False).ended


def test_tokens_that_hold_a_stop_text_end_a_row():
    stops, _ = token_masks(TOKENIZER, ("e",), None, ())
    for token in range(TOKENIZER.vocab_size):
        piece = TOKENIZER.piece(token)
        plain = not piece.startswith("<0x") and token not in (0, 1, 2)
        if plain and piece not in ("<unk>",):
            assert stops[token] == ("e" in piece), piece
    assert stops[TOKENIZER.eos_id]


def test_stop_through_the_model(model, scene):
    image, prompt = scene["image"], scene["prefix"]
    whole = model.generate(image, prompt)
    word = whole.split()[-1]
    answer = model.generate(image, prompt, stop=word, return_answers=True)
    assert answer.text == whole[: whole.index(word)] and answer.ended
    pieces = list(model.stream(image, prompt, stop=word))
    assert "".join(pieces) == answer.text
    several = whole[1:-1]  # of several tokens, and not at their borders
    assert model.generate(image, prompt, stop=several) == whole[:1]
    assert "".join(model.stream(image, prompt, stop=several)) == whole[:1]


def test_held_back():
    assert held_back("a re", ("red",)) == 2 and held_back("a red", ("blue", "dog")) == 1
    assert held_back("a", ()) == 0 and held_back("stop", ("stops", "op!")) == 4


def test_a_note_counts_answers_that_were_cut_off(model, scene, capsys):
    images = [scene["image"]] * 3
    answers = model.generate(images, "caption", max_new_tokens=1, return_answers=True)
    assert [a.ended for a in answers] == [False] * 3
    assert "NOTE: 3 of 3 answers did not end within max_new_tokens" in capsys.readouterr().err
    model.generate(scene["image"], "caption")
    assert "did not end" not in capsys.readouterr().err
    list(model.stream(scene["image"], "caption", max_new_tokens=1))
    assert "1 of 1 answers" in capsys.readouterr().err


BOX = "<loc0100><loc0100><loc0200><loc0200>"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (f"{BOX} cat ; {BOX} blue", ["cat"]),  # maybe a blue circle
        (f"{BOX} cat ; {BOX} blue circle ;", ["cat", "blue circle"]),
        (f"{BOX} cat", []),
        (f"{BOX} cat ; {BOX[:18]}", ["cat"]),
        ("", []),
        (f"{BOX}{'<seg001>' * 9}", []),
    ],
)
def test_objects_that_were_cut_off_are_left_out(text, labels):
    tokens = np.array(TOKENIZER.encode(text), np.int32)
    logprobs = np.zeros(len(tokens), np.float32)
    found = scored_boxes(TOKENIZER, tokens, logprobs, ended=False)
    assert [box.label for box, _ in found] == labels


def test_room_for_ten_objects():
    label = " red circle"
    for verb, codes in (("detect", ""), ("segment", "<seg001>" * 16)):
        text = " ; ".join([BOX + codes + label] * 10)
        assert len(TOKENIZER.encode(text, eos=True)) <= answer_length(f"{verb} red circle")
    assert answer_length("caption en") == answer_length(None) == answer_length("") == 64
    assert answer_length("detective work") == 64


def test_lengths_by_prompt_do_not_depend_on_what_is_beside(model, scene):
    image = scene["image"]
    prompts = ["caption", "detect circle", "segment circle"]
    options = {"return_answers": True, "forbidden": []}
    together = model.generate(image, prompts, **options)
    for prompt, answer in zip(prompts, together, strict=True):
        alone = model.generate(image, prompt, **options)
        np.testing.assert_array_equal(alone.tokens, answer.tokens)


# ---- prompts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ("<image>caption en", "caption en"),
        ("<image> caption en\n", "caption en"),
        ("<image>" * 256 + "<bos>caption en\n", "caption en"),
        ("<bos>caption en", "caption en"),
        ("caption en\n", "caption en"),
        ("caption en\r\n", "caption en"),
        ("answer en what is it?<image>", "answer en what is it?"),
        ("compare <image> and <image>", "compare and"),
        ("caption en ", "caption en "),
        (" caption en", " caption en"),
        ("two\nlines", "two\nlines"),
        ("", ""),
    ],
)
def test_prompts_as_users_of_transformers_write_them(given, want):
    assert clean_prompt(given) == want


def test_a_note_says_what_was_left_out(model, scene, capsys):
    image = scene["image"]
    want = model.generate(image, "caption")
    capsys.readouterr()
    assert model.generate(image, "<image>caption\n") == want
    assert "'<image>caption\\n' was read as 'caption'" in capsys.readouterr().err
    found = model.detect(image, "<image>detect circle")
    assert found == model.detect(image, "circle")


# ---- images --------------------------------------------------------------------------------------


def png(array=ARRAY, **options):
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG", **options)
    return data.getvalue()


def test_every_form_of_an_image(tmp_path):
    torch = pytest.importorskip("torch")
    import jax.numpy as jnp

    path = tmp_path / "a.png"
    path.write_bytes(png())
    chw = torch.from_numpy(np.moveaxis(ARRAY, -1, 0).copy())
    with path.open("rb") as file:
        file.read(3)  # it is read from its beginning
        same = [
            str(path), path, png(), bytearray(png()), memoryview(png()), io.BytesIO(png()), file,
            "data:image/png;base64," + base64.b64encode(png()).decode(),
            Image.fromarray(ARRAY), ARRAY, jnp.asarray(ARRAY), torch.from_numpy(ARRAY), chw,
            {"image": ARRAY}, {"image": {"bytes": png(), "path": None}},
            {"image": {"bytes": None, "path": str(path)}, "prefix": "caption"},
        ]  # fmt: skip
        for image in same:
            found = read_given(image)
            if isinstance(found, bytes):
                assert found == png(), image
            else:
                np.testing.assert_array_equal(found, ARRAY)
    frames = torch.stack([chw, chw])
    np.testing.assert_array_equal(read_given(frames), np.stack([ARRAY, ARRAY]))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA", "I;16", "YCbCr"])
def test_modes_of_pillow_that_are_read(mode):
    gray = Image.fromarray(np.full((8, 8), 200, np.uint8))
    image = Image.new("I;16", (8, 8), 200 * 256) if mode == "I;16" else gray.convert(mode)
    found = read_given(image)
    assert found.shape == (8, 8, 3) and abs(int(found.mean()) - 200) <= (60 if mode == "1" else 2)


@pytest.mark.parametrize(("mode", "value"), [("I", 200), ("F", 0.8), ("F", 200.0), ("LAB", 3)])
def test_modes_of_pillow_that_are_refused(mode, value):
    with pytest.raises(DataError, match="Pillow image"):
        read_given(Image.new(mode, (8, 8), value))


def test_series_datasets_and_generators(model):
    pandas = pytest.importorskip("pandas")
    images = [np.kron(ARRAY, np.ones((4, 4, 1), np.uint8))] * 2
    want = model.generate(images, ["caption", "count circle"])
    prompts = pandas.Series(["caption", "count circle"], index=["x", "y"])
    assert model.generate(pandas.Series(images), prompts) == want
    assert model.generate(iter(images), np.array(["caption", "count circle"])) == want
    rows = [{"image": i, "prefix": p} for i, p in zip(images, prompts, strict=True)]
    assert model.generate(rows) == want and model.generate(rows[0]) == want[0]
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(
        [{"image": {"bytes": png(i), "path": None}, "prefix": r["prefix"]}
         for i, r in zip(images, rows, strict=True)]
    ).cast_column("image", datasets.Image())  # fmt: skip
    assert model.generate(data) == want and model.generate(data[0]) == want[0]


def test_urls_only_where_they_are_allowed(model):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/a.png" else 404)
            self.end_headers()
            self.wfile.write(png())

        def log_message(self, *args):
            del args

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        assert read_given(f"{url}/a.png", allow_urls=True) == png()
        with pytest.raises(DataError, match="cannot be downloaded"):
            read_given(f"{url}/none.png", allow_urls=True)
        want = model.generate(ARRAY, "caption", max_new_tokens=2)
        got = model.generate(f"{url}/a.png", "caption", max_new_tokens=2, allow_urls=True)
        assert got == want
        with pytest.raises(UserError, match=r"a\.png: the image is a URL"):
            model.generate(f"{url}/a.png", "caption")
    finally:
        server.shutdown()


def test_exif_orientation(model, tmp_path, capsys):
    """An image is read as it is stored, with a note; orient=True turns it, and its boxes."""
    stored = np.zeros((40, 80, 3), np.uint8)
    stored[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.fromarray(stored).save(path, quality=100, subsampling=0, exif=exif)
    assert orientation(path.read_bytes()) == 6 and orientation(png()) == 1
    assert orientation(b"Exif no image") == 1
    found = model.detect(path, "circle")
    assert found.size == (40, 80) and "EXIF orientation" in capsys.readouterr().err
    found = model.detect([path, Image.open(path)], "circle", orient=True)
    assert [f.size for f in found] == [(80, 40)] * 2
    assert "EXIF orientation" not in capsys.readouterr().err
    assert found[0].draw().size == (40, 80)
    assert model.detect(path, "circle", orient=False).size == (40, 80)
    assert "EXIF orientation" not in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["bf16", "fp32", "torch.float16", np.float32, "bfloat16"])
def test_dtypes_in_many_forms(dtype):
    assert pgjax.load("tiny", dtype=dtype).res == 64


def test_dtypes_of_torch_and_jax():
    torch = pytest.importorskip("torch")
    import jax.numpy as jnp

    want = repr(pgjax.load("tiny", dtype="float32"))
    assert repr(pgjax.load("tiny", dtype=torch.float32)) == want
    assert repr(pgjax.load("tiny", dtype=jnp.float32)) == want
    with pytest.raises(UserError, match="dtype is 'int8'"):
        pgjax.load("tiny", dtype=torch.int8)
