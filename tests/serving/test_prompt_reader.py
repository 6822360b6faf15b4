"""Images and prompts of requests: what is read, and what nobody gets to read."""

import base64
import io
import os

import numpy as np
import pytest
from conftest import PHOTOS
from PIL import Image

import pgjax
from pgjax.data.loader import EvalLoader, Part
from pgjax.errors import UserError
from pgjax.inference.images import PromptedImages
from pgjax.inference.preprocessing import PromptPreprocessor
from pgjax.inference.sent_images import MOST_BYTES
from pgjax.serving.prompt_reader import PromptReader

FLOWER = PHOTOS / "flower.jpg"


@pytest.fixture(scope="module")
def model():
    return pgjax.load("tiny")


@pytest.fixture
def folder(tmp_path):
    """Files to be served, and a secret beside them."""
    shown = tmp_path / "shown"
    (shown / "in").mkdir(parents=True)
    (shown / "in" / "a b.jpg").write_bytes(FLOWER.read_bytes())
    (tmp_path / "secret.jpg").write_bytes(FLOWER.read_bytes())
    (shown / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (shown / "loop.jpg").symlink_to(shown / "loop.jpg")
    (shown / "text.txt").write_text("a secret")
    os.mkfifo(shown / "pipe.jpg")
    return shown


def data_url(data):
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def test_inputs_are_those_of_load(model):
    """Images and prompts are prepared as `Model.generate` prepares them."""
    reader = PromptReader(model, 128, None)
    got = reader.inputs("answer en what is it?", data_url(FLOWER.read_bytes()))
    source = PromptedImages([FLOWER], ["answer en what is it?"])
    want = next(iter(EvalLoader(Part(source, PromptPreprocessor(model.context)), 1)))
    for name in ("image", "text", "mask_ar", "mask_input"):
        np.testing.assert_array_equal(got[name], want[name][0])


def test_files_below_the_folder(model, folder):
    reader = PromptReader(model, 128, folder)
    want = reader.inputs("caption", data_url(FLOWER.read_bytes()))["image"]
    inside = folder / "in" / "a b.jpg"
    for url in ("in/a b.jpg", str(inside), f"file://{folder}/in/a%20b.jpg", "in/../in/a b.jpg"):
        np.testing.assert_array_equal(reader.inputs("caption", url)["image"], want)


@pytest.mark.parametrize(
    "url",
    ["../secret.jpg", "{0}/../secret.jpg", "link.jpg", "loop.jpg", "none.jpg", "in", "",
     "/etc/passwd", "pipe.jpg", "a\0b.jpg", "~/secret.jpg", "ftp://a/b.jpg",
     "file:///etc/passwd", "file://{0}/%2e%2e/secret.jpg", "x" * 5000],
)  # fmt: skip
def test_nothing_else_is_read(model, folder, url):
    reader = PromptReader(model, 128, folder)
    with pytest.raises(UserError, match="is no file below this server's folder of files"):
        reader.inputs("caption", url.format(folder))


@pytest.mark.parametrize(
    "url, said",
    [
        ("a.jpg", "neither a data URL nor one of this server's files"),
        ("HTTP://localhost/a.jpg", "does not fetch"),
        ("https://example.org/a.jpg", "does not fetch"),
        ("data:image/png,abc", "expected data:"),
        ("data:image/png;base64,###", "not base64"),
        ("data:image/png;base64,", "the image is empty"),
        (data_url(b"<svg/>"), "not an image of a known format"),
        (data_url(FLOWER.read_bytes()[:3000]), "damaged or cut short"),
        (data_url(bytes(MOST_BYTES + 1)), "at most 20 MB go"),
    ],
)
def test_other_images_are_refused(model, url, said):
    with pytest.raises(UserError, match=said):
        PromptReader(model, 128, None).inputs("caption", url)


def test_a_huge_picture_is_refused_before_it_is_decoded(model):
    data = io.BytesIO()
    Image.new("1", (10_000, 6_000)).save(data, "PNG")
    with pytest.raises(UserError, match="at most 50,000,000 pixels"):
        PromptReader(model, 128, None).inputs("caption", data_url(data.getvalue()))


def test_prompts(model):
    url = data_url(FLOWER.read_bytes())
    reader = PromptReader(model, 16, None)
    assert reader.inputs("caption en", url)["mask_input"].sum() <= 16
    for prompt, said in (
        ("word " * 40, "tokens, at most 16 tokens go"),
        ("x" * 10_000, "10,000 characters"),
        (None, "There is no text"),
        ("\ud800", "half of a surrogate pair"),
    ):
        with pytest.raises(UserError, match=said):
            reader.inputs(prompt, url)
    assert PromptReader(model, 10_000, None).longest_prompt == 512  # the checkpoint's own


def test_the_folder_must_exist(model, tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        PromptReader(model, 128, tmp_path / "none")
