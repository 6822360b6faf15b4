import inspect
import pickle

import numpy as np
import pytest

from pgjax.data.pipeline import Pipeline, describe_ops
from pgjax.errors import DataError, UserError
from pgjax.registry import OPS
from pgjax.text.compose import DropExample
from pgjax.text.tokenizer import Tokenizer

TRAIN = (
    "decode|resize(14, antialias=True)|value_range(-1, 1)|"
    "strfmt('answer en {question}', 'prefix')|choice('answers', 'suffix')|for_training(32)|"
    "keep('image', 'text', 'mask_ar', 'mask_loss')"
)


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.tiny()


def example():
    image = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return {"image": image, "question": b"what color?", "answers": ["red", "blue", "green"]}


def test_training_pipeline(tok):
    pipe = Pipeline.parse(TRAIN, tok)
    given = example()
    before = pickle.dumps(given)
    out = pipe(given, rng=np.random.default_rng(0))
    assert pickle.dumps(given) == before, "an op changed its input"
    assert {k: (v.shape, str(v.dtype)) for k, v in out.items()} == {
        "image": ((14, 14, 3), "float32"),
        "text": ((33,), "int32"),
        "mask_ar": ((33,), "int32"),
        "mask_loss": ((33,), "int32"),
    }
    assert tok.decode(out["text"]).startswith("answer en what color?\n")
    answers = {
        tok.decode(pipe(given, rng=np.random.default_rng(seed))["text"]).split("\n")[1]
        for seed in range(30)
    }
    assert answers == {"red", "blue", "green"}


def test_pickled_pipeline_gives_the_same_bits(tok):
    pipe = Pipeline.parse(TRAIN, tok)
    copy = pickle.loads(pickle.dumps(pipe))
    one, two = (p(example(), rng=np.random.default_rng(3)) for p in (pipe, copy))
    assert str(copy) == TRAIN
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])


def test_syntax():
    assert Pipeline.parse("")({"a": 1}) == {"a": 1}
    assert Pipeline.parse("strfmt('a|b')")({})["text"] == "a|b"
    assert Pipeline.parse("setdefault('a', -1)\n  |copy('a', 'b')\n")({}) == {"a": -1, "b": -1}
    for spec in ("decode|", "decode||resize(1)", "resize(224", "strfmt('a"):
        with pytest.raises(UserError, match="cannot be parsed"):
            Pipeline.parse(spec)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "decode|resiz(224)",
            r"op 2 .*'resiz' is not a known op; did you mean 'resize'\?",
        ),
        ("zzz", r"op 1 \(zzz\) .*'zzz' is not a known op; expected one of decode, resize"),
        ("resize", r"op 1 .*missing a required argument: 'size'; expected resize\(size, method="),
        ("resize(224, antialas=True)", "unexpected keyword argument 'antialas'"),
        ("resize(224, 'cubic')", r"method is 'cubic', expected one of \('bilinear'"),
        ("decode|resize(size)", r"op 2 \(resize\(size\)\) .*arguments must be literals"),
        ("resize(*[1])", "arguments must be literals"),
        ("keep(**{'a': 1})", "arguments must be literals"),
        ("decode|3", r"op 2 \(3\) .*is not an op"),
        ("decode.x(3)", r"op 1 \(decode\.x\(3\)\) .*is not an op"),
        ("decode+resize(3)", "is not an op"),
        ("decode|for_training(32)", r"op 2 .*needs a tokenizer"),
        ("flip_lr(rng=3)", "unexpected keyword argument 'rng'"),
    ],
)
def test_mistakes_are_found_before_any_data(spec, message):
    with pytest.raises(UserError, match=message):
        Pipeline.parse(spec)


def test_missing_key_says_what_there_is():
    pipe = Pipeline.parse("decode|strfmt('{qestion}')")
    with pytest.raises(DataError) as error:
        pipe(example())
    assert str(error.value) == (
        "op 2 (strfmt('{qestion}')): the example has no key 'qestion', "
        "it has ['answers', 'image', 'question']."
    )


def test_failures_on_data_name_the_op(tok):
    with pytest.raises(DataError, match=r"^op 1 \(decode\): the image is empty: got 0 bytes\.$"):
        Pipeline.parse("decode")({"image": b""})
    with pytest.raises(DropExample, match=r"^op 1 \(for_answering\(3, .*\)\): The text has"):
        Pipeline.parse("for_answering(3, on_truncate='drop')", tok)({"prefix": "a long prompt"})
    with pytest.raises(DataError, match=r"op 1 .*UnicodeDecodeError") as error:
        Pipeline.parse("lower('a')")({"a": b"\xff"})
    assert isinstance(error.value.__cause__, UnicodeDecodeError)


def test_randomness_needs_a_generator():
    with pytest.raises(UserError, match=r"op 1 \(flip_lr\) draws random numbers"):
        Pipeline.parse("flip_lr")(example())


def double(example, key="a", *, times: int = 2):
    """Multiply a value."""
    return {**example, key: example[key] * times}


def test_register(monkeypatch):
    monkeypatch.setattr(OPS, "_entries", dict(OPS))
    assert OPS.register("double")(double) is double
    OPS.register("broken")(lambda example: None)
    pipe = Pipeline.parse("double|double(times=5)")
    assert pickle.loads(pickle.dumps(pipe))({"a": 1}) == {"a": 10}
    assert "double(key='a', *, times=2): Multiply a value." in describe_ops()
    with pytest.raises(UserError, match="The op 'resize' .* by .*ops_image.resize and by .*double"):
        OPS.register("resize")(double)
    with pytest.raises(UserError, match=r"op 1 \(broken\) returned NoneType, expected a dict"):
        Pipeline.parse("broken")({})


def test_every_op_is_described():
    lines = describe_ops().splitlines()
    assert [line.split("(")[0] for line in lines] == list(OPS)
    assert all(line.endswith(".") for line in lines)
    for function in OPS.values():
        names = list(inspect.signature(function).parameters)
        assert names[0] == "example"
