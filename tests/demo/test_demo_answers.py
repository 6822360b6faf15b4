"""What a visitor sends is checked; what is found is readable, in colors, and can be taken away."""

import base64
import io
import json
import re
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageColor

from pgjax.data.draw import PALETTE, draw_masks, ink_on, object_colors
from pgjax.data.scenes import SceneSource
from pgjax.demo.answering import Models, Result
from pgjax.demo.downloads import downloads
from pgjax.demo.questions import Question, read_question
from pgjax.demo.rendering import answer_html
from pgjax.errors import UserError
from pgjax.inference.answer import Answer
from pgjax.inference.detections import DetectedObject, Detections
from pgjax.inference.sent_images import MOST_BYTES


def png(image):
    data = io.BytesIO()
    Image.fromarray(image).save(data, "PNG")
    return data.getvalue()


@pytest.fixture
def uploads(tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    (tmp_path / "secret.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    return folder


SENT = {"image": {"path": "a.png"}, "prompt": "caption en", "sampler": "greedy", "length": 0,
        "seed": 0, "orient": False}  # fmt: skip


def sent(uploads, **changes):
    values = {**SENT, **changes}
    if isinstance(values["image"], dict) and isinstance(path := values["image"]["path"], str):
        values["image"] = {"path": str(uploads / path)}
    return read_question(**values, uploads=uploads)


def test_a_question_as_it_is_sent(uploads):
    asked = sent(uploads, prompt=" caption en ", length=24.0, seed=7)
    assert (asked.name, asked.prompt, asked.length, asked.seed) == ("a.png", "caption en", 24, 7)
    assert asked.orient is None and sent(uploads, orient=True).orient is True
    assert sent(uploads, prompt="").prompt is None and sent(uploads).length is None


@pytest.mark.parametrize(
    "change, said",
    [
        ({"prompt": None}, "prompt is null, expected text"),
        ({"prompt": ["a"]}, "prompt is ['a'], expected text"),
        ({"prompt": "x" * 1001}, "The prompt has 1,001 characters, at most 1,000 go."),
        ({"sampler": None}, "sampler is null, expected one of greedy"),
        ({"sampler": "beam(1000000000)"}, "sampler is 'beam(1000000000)', expected one of"),
        ({"seed": None}, "seed is null, expected a whole number, 0 to 2,147,483,647."),
        ({"seed": -1}, "seed is -1, expected a whole number"),
        ({"seed": 1.5}, "seed is 1.5, expected a whole number"),
        ({"seed": float("nan")}, "seed is nan, expected a whole number"),
        ({"seed": True}, "seed is True, expected a whole number"),
        ({"length": None}, "length is null, expected a whole number"),
        ({"length": 10**9}, "length is 1000000000, expected a whole number, 0 to 512."),
        ({"orient": None}, "orient is null, expected true or false."),
        ({"image": None}, "There is no image yet"),
        ({"image": "/etc/passwd"}, "image is '/etc/passwd', expected an uploaded file."),
        ({"image": {"path": None}}, "expected an uploaded file."),
        ({"image": {"path": "a\0.png"}}, "expected an uploaded file."),
        ({"image": {"path": "/etc/passwd"}}, "no file that was uploaded here"),
        ({"image": {"path": "../secret.png"}}, "no file that was uploaded here"),
        ({"image": {"path": "link.png"}}, "no file that was uploaded here"),
        ({"image": {"path": "http://127.0.0.1/a.png"}}, "no file that was uploaded here"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(change, said, uploads):
    with pytest.raises(UserError) as caught:
        sent(uploads, **change)
    message = str(caught.value)
    assert said in message and message.endswith(".") and "\n" not in message


def test_large_files_and_pictures_are_refused_before_they_are_decoded(uploads):
    Image.new("1", (25_000, 20_000)).save(uploads / "huge.png")
    (uploads / "long.png").write_bytes(bytes(MOST_BYTES + 1))
    with pytest.raises(UserError, match="the image is too large"):
        sent(uploads, image={"path": "huge.png"})
    with pytest.raises(UserError, match=r"at most 20 MB go"):
        sent(uploads, image={"path": "long.png"})


@pytest.fixture
def result():
    mask = np.zeros((40, 60), bool)
    mask[5:20, 10:30] = True
    image = np.full((40, 60, 3), 120, np.uint8)
    found = Detections(
        [
            DetectedObject("<b>cat</b>", (5, 10, 20, 30), 0.91, mask),
            DetectedObject("cat", (20, 30, 40, 60), 0.4, mask[::-1, ::-1]),
        ],
        (40, 60), image,
    )  # fmt: skip
    text = "<loc0128><loc0170><loc0512><loc0512> cat"
    answer = Answer(text, np.ones(6, np.int32), np.full(6, -0.1, np.float32))
    colors = tuple(object_colors(image, [x.box for x in found]))
    question = Question(png(image), "my photo.png", "segment cat")
    return Result("tiny", question, text, answer=answer, found=found, colors=colors)


def test_objects_are_listed_in_the_colors_in_which_they_are_drawn(result):
    page = answer_html(result)
    assert "<loc" not in page and "<b>cat" not in page and "&lt;b&gt;cat" in page
    assert re.findall(r"--pg-color: (\S+?)\"", page) == list(result.colors)
    assert re.findall(r'pg-score">(.*?)<', page) == ["91%", "40%"]
    drawn = np.asarray(result.found.draw(colors=result.colors)).reshape(-1, 3)
    for color in result.colors:
        assert (drawn == ImageColor.getrgb(color)).all(-1).sum() > 20
    # A threshold leaves the color of what remains as it was.
    assert result.above(0.5).colors == result.colors[:1] and len(result.above(0.5).found) == 1
    assert "no object scores" in answer_html(result.above(0.95))


def test_a_text_is_shown_with_its_probability(result):
    answer = Answer("a <cat>", np.ones(2, np.int32), np.log([0.5, 0.5]).astype(np.float32), False)
    none = Detections([], (40, 60))
    page = answer_html(Result("tiny", result.question, "a <cat>", answer=answer, found=none))
    assert "a &lt;cat&gt;" in page and "probability of this text 25%" in page
    assert "cut off after 2 tokens" in page
    waiting = Result(
        "tiny", result.question, "<loc0001><loc0002><loc0003><loc0004> c", "answering …"
    )
    assert "1 found so far" in answer_html(waiting) and "answering …" in answer_html(waiting)


def test_downloads_hold_what_was_found(result, tmp_path):
    files = {}
    for _, name, url in downloads(result):
        kind, _, data = url.partition(";base64,")
        assert kind in ("data:application/json", "data:application/zip")
        files[name] = base64.b64decode(data)
    assert list(files) == ["my photo_boxes.json", "my photo_coco.json", "my photo_masks.zip"]
    boxes = json.loads(files["my photo_boxes.json"])
    assert boxes["prefix"] == "segment cat" and boxes["objects"] == result.found.to_records()
    archive = zipfile.ZipFile(io.BytesIO(files["my photo_masks.zip"]))
    assert archive.namelist() == ["01__b_cat__b_.png", "02_cat.png"]
    for name, found in zip(archive.namelist(), result.found, strict=True):
        with Image.open(io.BytesIO(archive.read(name))) as mask:
            np.testing.assert_array_equal(np.asarray(mask), found.mask)

    # Another reader of COCO's format, and pgjax's own, read the same boxes and masks.
    path = tmp_path / "coco.json"
    path.write_bytes(files["my photo_coco.json"])
    coco = pytest.importorskip("pycocotools.coco")
    read = coco.COCO(str(path))
    for found, annotation in zip(result.found, read.loadAnns(read.getAnnIds()), strict=True):
        y0, x0, y1, x1 = found.box
        assert annotation["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        np.testing.assert_array_equal(read.annToMask(annotation), found.mask)
        assert annotation["area"] == found.mask.sum()


@pytest.mark.parametrize("ground", [*PALETTE, "#000000", "#ffffff", "#808080", "noise"])
def test_colors_stand_out_from_the_picture(ground):
    if ground == "noise":
        image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    else:
        image = np.tile(np.array(ImageColor.getrgb(ground), np.uint8), (64, 64, 1))
    colors = object_colors(image, [(8, 8, 40, 40)] * len(PALETTE))
    assert sorted(colors) == sorted(PALETTE)  # each once
    worst = min(
        np.linalg.norm(np.subtract(ImageColor.getrgb(c), image[8, 8].astype(int)))
        for c in colors[:4]
    )
    assert worst > 150 or ground == "noise"


def test_labels_can_be_read_on_their_colors():
    def light(color):
        linear = [(v / 255) ** 2.2 for v in ImageColor.getrgb(color)]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    for color in PALETTE:
        low, high = sorted((light(color), light(ink_on(color))))
        assert (high + 0.05) / (low + 0.05) > 4.5, color


def test_masks_have_an_outline_in_their_color():
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    image = np.zeros((40, 40, 3), np.uint8)
    drawn = draw_masks(image, [mask], ["#ff0000"])
    assert not image.any() and not drawn[~mask].any()
    assert drawn[10, 15, 0] == drawn[29, 29, 0] == 255 and drawn[20, 20, 0] == 127


@pytest.fixture(scope="module")
def models():
    return Models(None)


def ask(models, image, prompt, **options):
    return list(models.ask("tiny", Question(png(image), "a.png", prompt, **options)))


@pytest.mark.slow
def test_answers_of_a_model(models):
    source = SceneSource("demo_test", tasks=("segment",), max_shapes=1, style="plain", wording="pt")
    example = source[0]
    *before, result = ask(models, example["image"], example["prefix"])
    assert [x.state for x in before][:2] == ["loading the checkpoint …", "answering …"]
    (found,) = result.found
    np.testing.assert_allclose(found.box, np.array(example["boxes"][0]) * 64, atol=3)
    assert found.mask.any() and result.answer.ended and not result.state
    # A search gives an answer as well, although not in pieces.
    *_, searched = ask(models, example["image"], example["prefix"], sampler="beam(4)")
    assert searched.text == result.text


@pytest.mark.slow
def test_images_are_read_as_generate_reads_them(models):
    """As they are stored, unless the visitor wants them turned."""
    source = SceneSource("demo_test", tasks=("detect",), max_shapes=1, style="plain", wording="pt")
    example = source[1]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    data = io.BytesIO()
    Image.fromarray(np.rot90(example["image"])).save(data, "PNG", exif=exif)
    for orient, turned_away in ((None, True), (True, False)):
        question = Question(data.getvalue(), "a.png", example["prefix"], orient=orient)
        *_, result = models.ask("tiny", question)
        model = models.open("tiny", ())
        assert result.text == model.generate(data.getvalue(), example["prefix"], orient=orient)
        assert result.is_turned_away == turned_away
        stored = np.rot90(example["image"])
        np.testing.assert_array_equal(result.found.image, example["image"] if orient else stored)
        assert ("EXIF orientation" in answer_html(result)) == turned_away


def test_only_models_of_the_last_question_stay_in_memory(models, monkeypatch, tmp_path):
    from pgjax.demo import answering

    other = tmp_path / "other.npz"
    tiny = models.open("tiny", ())
    monkeypatch.setattr(answering, "load", lambda name, quantize: tiny)
    for free, kept in ((10**12, True), (0, False)):
        mine = Models(None)
        monkeypatch.setattr(answering, "free_bytes", lambda free=free: free)
        mine.open("tiny", ("tiny", str(other)))
        mine.open(str(other), ("tiny", str(other)))
        assert ("tiny" in mine) == kept and str(other) in mine
    mine.open("tiny", ("tiny",))
    assert "tiny" in mine and str(other) not in mine
