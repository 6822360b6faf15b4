"""Wrong uses of the Python API: one sentence each, which names the argument."""

import io
import re

import numpy as np
import pytest
from PIL import Image

import pgjax
from pgjax.errors import UserError

ARRAY = np.zeros((64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    return pgjax.load("tiny")


def ask(*args, **kwargs):
    return lambda model, tmp: model.generate(*args, **kwargs)


def opens(*args, **kwargs):
    return lambda model, tmp: pgjax.load(*args, **kwargs)


def tunes(*args, **kwargs):
    return lambda model, tmp: pgjax.finetune(*args, **{"workdir": tmp / "run", **kwargs})


ROW = {"image": ARRAY, "prefix": "caption", "suffix": "a cat"}

USES = [
    # Options of other libraries.
    (ask(ARRAY, "caption", max_tokens=3), "max_new_tokens"),
    (ask(ARRAY, "caption", max_length=3), "max_new_tokens"),
    (ask(ARRAY, "caption", temperature=0.7), "temperature(0.7)"),
    (ask(ARRAY, "caption", do_sample=True), "do_sample"),
    (ask(ARRAY, "caption", top_k=3), "top_k(40)"),
    (ask(ARRAY, "caption", top_p=0.9), "nucleus(0.9)"),
    (ask(ARRAY, "caption", num_beams=4), "beam(4)"),
    (ask(ARRAY, "caption", num_return_sequences=4), "num_return_sequences"),
    (ask(ARRAY, "caption", repetition_penalty=1.2), "repetition_penalty"),
    (ask(ARRAY, "caption", eos_token_id=1), "stop="),
    (ask(ARRAY, "caption", stop_strings=["."]), "stop="),
    (ask(ARRAY, "caption", streamer=print), "model.stream"),
    (ask(ARRAY, "caption", output_scores=True), "return_answers"),
    (ask(input_ids=[1], pixel_values=ARRAY), "generate(image, prompt)"),
    (ask(text="caption", images=ARRAY), "generate(image, prompt)"),
    (ask(image=ARRAY, prompt="caption"), "'images'"),
    (ask(ARRAY, "caption", max_new_token=3), "'max_new_tokens'"),
    (ask(ARRAY, "caption", sead=3), "'seed'"),
    (ask(ARRAY, "caption", 10), "name=value"),
    (ask(), "'images'"),
    (ask(ARRAY, "caption", images=ARRAY), "'images'"),
    # Values of options.
    (ask(ARRAY, "caption", max_new_tokens="10"), "max_new_tokens"),
    (ask(ARRAY, "caption", max_new_tokens=0), "max_new_tokens"),
    (ask(ARRAY, "caption", max_new_tokens=1.5), "max_new_tokens"),
    (ask(ARRAY, "caption", max_new_tokens=True), "max_new_tokens"),
    (ask(ARRAY, "caption", seed=-1), "seed"),
    (ask(ARRAY, "caption", seed=None), "seed"),
    (ask(ARRAY, "caption", batch_size="all"), "batch_size"),
    (ask(ARRAY, "caption", sampler=0.7), "sampler"),
    (ask(ARRAY, "caption", sampler="gready"), "sampler"),
    (ask(ARRAY, "caption", sampler="temperature(hot)"), "sampler"),
    (ask(ARRAY, "caption", stop=3), "stop"),
    (ask(ARRAY, "caption", stop=""), "stop"),
    (ask(ARRAY, "caption", allowed=[1]), "allowed"),
    (ask(ARRAY, "caption", forbidden=5), "forbidden"),
    (ask(ARRAY, "caption", cache_dtype="int8"), "cache_dtype"),
    (ask(ARRAY, "caption", orient="yes"), "orient"),
    (ask(ARRAY, "caption", allow_urls=1), "allow_urls"),
    # Images and prompts.
    (ask("caption", ARRAY), "the image comes first"),
    (ask("caption en", Image.fromarray(ARRAY)), "the image comes first"),
    (lambda model, tmp: model.generate("caption", _file(tmp)), "the image comes first"),
    (ask(ARRAY), "prompts"),
    (ask([ARRAY, ARRAY], [None, "caption"]), "prompts"),
    (ask(ARRAY, 3), "prompts"),
    (ask([ARRAY, ARRAY], ["caption", 3]), "prompts[1]"),
    (ask([ARRAY] * 2, ["caption"] * 3), "prompts"),
    (ask(None, "caption"), "images"),
    (ask(7, "caption"), "images"),
    (ask([ARRAY, None], "caption"), "images[1]"),
    (ask([[ARRAY]], "caption"), "images"),
    (ask(ARRAY.astype(np.float32), "caption"), "uint8"),
    (ask(ARRAY.astype(np.int64), "caption"), "uint8"),
    (ask(np.moveaxis(ARRAY, -1, 0), "caption"), "np.moveaxis"),
    (ask(np.zeros((5,), np.uint8), "caption"), "shape"),
    (ask(b"no image", "caption"), "image"),
    (ask(b"", "caption"), "image"),
    (ask("nowhere.jpg", "caption"), "nowhere.jpg"),
    (ask("https://example.org/bee.jpg", "caption"), "allow_urls=True"),
    (ask("data:image/png;base64,???", "caption"), "data URL"),
    (ask(io.StringIO("text"), "caption"), "open(…, 'rb')"),
    (ask({"picture": ARRAY}, "caption"), "'image'"),
    (ask(Image.new("F", (64, 64)), "caption"), "mode 'F'"),
    (ask(Image.new("I", (64, 64)), "caption"), "mode 'I'"),
    (lambda model, tmp: model.stream([ARRAY], "caption"), "stream() takes one image"),
    (lambda model, tmp: model.stream(ARRAY), "prompts"),
    (lambda model, tmp: model.stream(ARRAY, "caption", batch_size=1), "batch_size"),
    (lambda model, tmp: model.detect(ARRAY), "'prompts'"),
    (lambda model, tmp: model.detect(ARRAY, None), "prompts"),
    (lambda model, tmp: model.segment(ARRAY, ["cat", None]), "prompts"),
    # Checkpoints.
    (opens(None), "source"),
    (opens(""), "source"),
    (opens(), "'source'"),
    (opens("tiny", dtype="int8"), "quantize='int8'"),
    (opens("tiny", dtype="float64"), "dtype"),
    (opens("tiny", dtype=3), "dtype"),
    (opens("tiny", torch_dtype="bfloat16"), "dtype="),
    (opens("tiny", load_in_4bit=True), 'quantize="nf4"'),
    (opens("tiny", device="cuda"), "JAX_PLATFORMS"),
    (opens("tiny", device_map="auto"), "mesh="),
    (opens("tiny", quantize="int3"), "quantize"),
    (opens("tiny", quantize=4), "quantize"),
    (opens("tiny", res="448"), "res"),
    (opens("tiny", res=-1), "res"),
    (opens("tiny", mesh=4), "mesh"),
    (opens("tiny", tokenizer=3), "tokenizer"),
    (opens("tiny", quantise="int8"), "'quantize'"),
    # Training.
    (tunes(None), "config"),
    (tunes("forkmy"), "forkme"),
    (tunes("forkme:variant=tiny", workdir=None), "workdir"),
    (tunes("forkme:variant=tiny", data="mine.jsonl"), "data"),
    (tunes("forkme:variant=tiny", data={"train": [ROW]}), "data"),
    (tunes("forkme:variant=tiny", data=[]), "data"),
    (tunes("forkme:variant=tiny", data=[1, 2]), "data[0]"),
    (tunes("forkme:variant=tiny", data=[{"img": ARRAY}]), "'image'"),
    (tunes("forkme:variant=tiny", data=3), "data"),
    (tunes("forkme:variant=tiny", eval_data=[ROW]), "eval_data"),
    (tunes("forkme:variant=tiny", watch=3), "watch"),
    (tunes("forkme:variant=tiny", on_metrics="print"), "on_metrics"),
    (tunes("forkme:variant=tiny", epochs=3), "total_epochs"),
    (tunes("forkme:variant=tiny", learning_rate=3), "optimizer.lr"),
    (tunes("forkme:variant=tiny", train_dataset=[ROW]), "data=[…]"),
]


def _file(folder):
    path = folder / "a.png"
    Image.fromarray(ARRAY).save(path)
    return str(path)


@pytest.mark.parametrize(("use", "named"), USES, ids=range(len(USES)))
def test_one_sentence_that_names_the_argument(model, tmp_path, use, named):
    with pytest.raises(UserError) as caught:
        use(model, tmp_path)
    text = str(caught.value)
    assert named in text, text
    assert text.endswith((".", "?")) and "\n" not in text, text
    # No names of what is inside: private names, modules, or Python's own words for a wrong call.
    assert not re.search(r"(?<![\w.])_[a-z]|__|pgjax\.(?!finetune|load|read_config)", text), text
    assert not re.search(r"unexpected keyword|positional|NoneType|PosixPath|object at", text), text


def test_there_are_sixty_of_them():
    assert len(USES) >= 60
