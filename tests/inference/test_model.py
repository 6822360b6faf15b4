"""`pgjax.load` and what it returns, on the tiny checkpoint that ships."""

import inspect
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import pgjax
from pgjax.data.scenes import SceneSource
from pgjax.errors import UserError
from pgjax.inference.answer import Answer
from pgjax.inference.decoding_options import GenerateKwargs, StreamKwargs
from pgjax.inference.detections import Detections


@pytest.fixture(scope="module")
def model():
    return pgjax.load("tiny")


@pytest.fixture(scope="module")
def scenes():
    source = SceneSource("model_test", tasks=("caption", "detect"), max_shapes=1, wording="pt")
    return [source[i] for i in range(12)]


def test_answers_are_right(model, scenes):
    """One shape on a plain background: the checkpoint knows these."""
    images, prompts = [s["image"] for s in scenes], [s["prefix"] for s in scenes]
    texts = model.generate(images, prompts, max_new_tokens=24)
    right = [text == scene["suffix"] for text, scene in zip(texts, scenes, strict=True)]
    assert np.mean(right) >= 0.8, list(zip(texts, prompts, strict=True))


def test_batches_do_not_change_answers(model, scenes):
    images, prompts = [s["image"] for s in scenes[:5]], [s["prefix"] for s in scenes[:5]]
    want = [model.generate(i, p, max_new_tokens=16) for i, p in zip(images, prompts, strict=True)]
    for size in (1, 2, 0):
        assert model.generate(images, prompts, max_new_tokens=16, batch_size=size) == want


def test_one_image_many_prompts_and_the_other_way(model, scenes):
    image, other = scenes[0]["image"], scenes[2]["image"]
    texts = model.generate(image, ["caption", "count circle"], max_new_tokens=16)
    assert texts[0] == model.generate(image, "caption", max_new_tokens=16) and len(texts) == 2
    texts = model.generate([image, other], "caption", max_new_tokens=16)
    assert texts[1] == model.generate(other, "caption", max_new_tokens=16)
    assert model.generate([], "caption") == []
    with pytest.raises(UserError, match="got 2 images and 3 prompts"):
        model.generate([image, other], ["a", "b", "c"])


def test_kinds_of_images(model, scenes, tmp_path):
    array = scenes[0]["image"]
    picture = Image.fromarray(array)
    picture.save(tmp_path / "a.png")
    data = io.BytesIO()
    picture.save(data, "PNG")
    same = [array, picture, tmp_path / "a.png", str(tmp_path / "a.png"), data.getvalue()]
    assert len(set(model.generate(same, "caption", max_new_tokens=16))) == 1
    with pytest.raises(UserError, match=r"none\.png: the image cannot be read: No such file"):
        model.generate(tmp_path / "none.png", "caption")
    with pytest.raises(UserError, match="float32, expected uint8"):
        model.generate(array.astype(np.float32), "caption")


def test_samples_belong_to_their_row(model, scenes):
    """The same seed gives the same answer, whatever is asked beside it."""
    images, options = [s["image"] for s in scenes[:4]], {"sampler": "temperature(2)", "seed": 5}
    options["max_new_tokens"] = 16
    four = model.generate(images, "caption", batch_size=4, **options)
    assert model.generate(images, "caption", batch_size=2, **options) == four
    assert model.generate(images[0], "caption", **options) == four[0]
    other = model.generate(images, "caption", batch_size=4, **{**options, "seed": 6})
    assert other != four


def test_answers_carry_tokens_and_logprobs(model, scenes):
    answer = model.generate(scenes[0]["image"], "caption", return_answers=True)
    tokenizer = model.context.tokenizer
    assert isinstance(answer, Answer) and answer.tokens[-1] == tokenizer.eos_id
    assert tokenizer.decode(answer.tokens.tolist()) == answer.text
    assert answer.logprobs.shape == answer.tokens.shape and (answer.logprobs <= 0).all()
    assert answer.logprob == pytest.approx(float(answer.logprobs.sum()), rel=1e-5)
    short = model.generate(scenes[0]["image"], "caption", max_new_tokens=2, return_answers=True)
    np.testing.assert_array_equal(short.tokens, answer.tokens[:2])


def test_stream_is_generate_in_pieces(model, scenes):
    for scene in scenes[:2]:
        pieces = list(model.stream(scene["image"], scene["prefix"], max_new_tokens=20))
        want = model.generate(scene["image"], scene["prefix"], max_new_tokens=20)
        assert "".join(pieces) == want and len(pieces) > 1
    with pytest.raises(UserError, match="token by token"):
        list(model.stream(scenes[0]["image"], "caption", sampler="beam(2)"))


def test_searches(model, scenes):
    images, options = [s["image"] for s in scenes[:3]], {"return_answers": True}
    greedy = model.generate(images, "caption", **options)
    beam = model.generate(images, "caption", sampler="beam(3)", **options)
    for a, b in zip(greedy, beam, strict=True):
        assert b.logprob >= a.logprob - 1e-4
    best = model.generate(images, "caption", sampler="best_of(4, 0.8)", **options)
    assert len(best) == 3


def test_allowed_forbidden_and_stop(model, scenes):
    image = scenes[0]["image"]
    word = model.generate(image, "caption").split()[-1]
    assert word not in model.generate(image, "caption", forbidden=[word])
    answer = model.generate(image, "color of circle", allowed=["red", "blue"], max_new_tokens=4)
    assert set(answer.split()) <= {"red", "blue"}
    text = model.generate(scenes[1]["image"], scenes[1]["prefix"], stop="<loc0512>")
    assert "<loc0512>" not in text[:-9]


def test_detect(model, scenes):
    for scene in scenes[1:8:2]:
        large = np.kron(scene["image"], np.ones((2, 3, 1), np.uint8))  # 128 × 192 pixels
        found = model.detect(large, scene["prefix"].removeprefix("detect "))
        assert [x.label for x in found] == scene["labels"]
        want = np.array(scene["boxes"][0]) * [128, 192, 128, 192]
        np.testing.assert_allclose(found[0].box, want, atol=12)
        assert 0.3 < found[0].score <= 1 and found[0].mask is None
        assert isinstance(found, Detections) and found.size == (128, 192)
        assert found._repr_png_().startswith(b"\x89PNG")
    lists = model.detect([scenes[1]["image"]] * 2, "red circle")
    assert isinstance(lists, list) and len(lists) == 2


def test_what_a_source_cannot_be(tmp_path):
    with pytest.raises(UserError, match="neither a path nor a released name"):
        pgjax.load("mixed-224")
    with pytest.raises(UserError, match="quantize is 'int3'"):
        pgjax.load("tiny", quantize="int3")
    with pytest.raises(UserError, match="holds no image|is no PaliGemma|not a readable"):
        (tmp_path / "x.npz").write_bytes(b"no zip")
        pgjax.load(tmp_path / "x.npz")


def test_another_resolution_is_said_and_works(capsys, scenes):
    model = pgjax.load("tiny", res=96)
    assert "trained on 8x8 image tokens" in capsys.readouterr().err
    assert isinstance(model.generate(scenes[0]["image"], "caption", max_new_tokens=4), str)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_quantized(kind, scenes, capsys):
    model = pgjax.load("tiny", quantize=kind)
    assert f"{kind}: the decoder matrices take" in capsys.readouterr().err
    images, prompts = [s["image"] for s in scenes], [s["prefix"] for s in scenes]
    texts = model.generate(images, prompts, max_new_tokens=24)
    right = [text == scene["suffix"] for text, scene in zip(texts, scenes, strict=True)]
    assert np.mean(right) >= {"nf4": 0.4, "int8": 0.8}[kind]


def test_a_quantized_image_tower(scenes, capsys):
    model = pgjax.load("tiny", quantize="int8", quantize_images=True)
    assert "int8: the matrices take" in capsys.readouterr().err
    plain = pgjax.load("tiny", quantize="int8")
    size = [sum(x.nbytes for x in m.params.values()) for m in (model, plain)]
    assert size[0] < size[1]
    images, prompts = [s["image"] for s in scenes], [s["prefix"] for s in scenes]
    texts = model.generate(images, prompts, max_new_tokens=24)
    right = [text == scene["suffix"] for text, scene in zip(texts, scenes, strict=True)]
    assert np.mean(right) >= 0.8
    with pytest.raises(UserError, match="quantize_images is set, and quantize is not"):
        pgjax.load("tiny", quantize_images=True)


OPTIONS = {
    "max_new_tokens": None,
    "sampler": "greedy",
    "seed": 0,
    "batch_size": 0,
    "stop": (),
    "allowed": None,
    "forbidden": (),
    "objects": None,
    "cache_dtype": None,
    "orient": None,
    "allow_urls": False,
}


@pytest.mark.parametrize("name", ["generate", "generate_examples", "stream", "detect", "segment"])
def test_signatures_name_every_option(name):
    method = getattr(pgjax.Model, name)
    parameters = inspect.signature(method).parameters.values()
    assert all(p.kind is not p.VAR_KEYWORD for p in parameters)
    shown = {p.name: p.default for p in parameters if p.name in OPTIONS}
    left_out = {"batch_size"} if name == "stream" else set()
    assert shown == {k: v for k, v in OPTIONS.items() if k not in left_out}
    kwargs = StreamKwargs if name == "stream" else GenerateKwargs
    assert shown.keys() == set(inspect.get_annotations(kwargs)) | set(StreamKwargs.__annotations__)
    assert all(f"{option}: " in inspect.getdoc(method) for option in shown)
    assert max(map(len, method.__doc__.splitlines())) <= 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 3}, "has no argument 'max_tokens'; max_new_tokens=64 is"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0, expected a whole number, 1 or more"),
        ({"seed": 10**20}, "seed is 1000.*, expected a whole number, 0 to 2,147,483,647"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"stop": [3]}, r"stop is \[3\], expected a text or a list of texts"),
        ({"cache_dtype": "int8"}, "cache_dtype"),
        ({"sampler": 3}, "sampler is 3"),
    ],
)
def test_wrong_options(model, scenes, options, message):
    with pytest.raises(UserError, match=message):
        model.generate(scenes[0]["image"], "caption", **options)


def test_repr_says_what_was_loaded(model):
    text = repr(model)
    assert "checkpoint: 'tiny'" in text and "res: 64" in text
    assert "stored: float16 (" in text and "computes: float32" in text
    assert "(data=1, model=1)" in text and "MiB per device" in text


def test_the_package_is_fast_to_import_and_shows_what_is_real():
    code = (
        "import sys, time; start = time.process_time()\n"
        "import pgjax; seconds = time.process_time() - start\n"
        "assert not {'jax', 'numpy', 'PIL'} & sys.modules.keys()\n"
        "print(seconds)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and float(done.stdout) < 0.3, done.stderr
    assert set(pgjax.__all__) <= set(dir(pgjax))
    assert all(getattr(pgjax, name).__doc__ for name in pgjax.__all__)
    assert list(inspect.signature(pgjax.load).parameters)[:2] == ["source", "quantize"]
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        pgjax.lod  # noqa: B018
