"""Arguments of ops that cannot be right are refused, most of them before any data is read."""

import numpy as np
import pytest

from pgjax.data.pipeline import Pipeline
from pgjax.errors import DataError, UserError

IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("resize((1, 200000000))", "at most 32,768 pixels"),
        ("resize(0)", "size is 0, expected a positive integer"),
        ("resize((1, 2, 3))", "expected a positive integer or"),
        ("resize(8.5)", "expected a positive integer"),
        ("resize(True)", "expected a positive integer"),
        ("resize(8, antialias='no')", "antialias is 'no', expected True or False"),
        ("resize(8, 'nope')", "method is 'nope', expected one of"),
        ("resize_small(0)", r"size is 0, expected a number in 1\.\.32768"),
        ("resize_long(-3)", "size is -3"),
        ("flip_lr(2)", r"prob is 2, expected a number in 0\.\.1"),
        ("flip_lr('a')", "prob is 'a'"),
        ("flip_lr(1e999)", "prob is inf"),
        ("inception_crop(200, 300)", r"area_min is 200, expected a number in 0\.\.100"),
        ("inception_crop(5, aspect_max=0)", "aspect_max is 0"),
        ("value_range(1e999, 1)", "vmin is inf, expected a number"),
        ("value_range('a')", "vmin is 'a', expected a number"),
        ("value_range(-1, 1, clip_values=1)", "clip_values is 1, expected True or False"),
        ("keep('image', 3)", "is 3, expected text"),
        ("for_answering('64')", "text_len is '64', expected a whole number"),
        ("|".join(["flip_lr"] * 5000), "too long or nested too deeply"),
        ("keep(" + "(" * 5000 + ")" * 5000 + ")", "cannot be parsed|nested too deeply"),
        ("resize(" + "-" * 5000 + "1)", "nested too deeply|literals|cannot be parsed"),
        ("keep('a'" + ", 'a'" * 100_000 + ", 3)", "is 3, expected text"),
    ],
)
def test_refused_when_parsed(spec, problem):
    with pytest.raises(UserError, match=problem):
        Pipeline.parse(spec, tokenizer=object())


@pytest.mark.parametrize(
    "spec",
    [
        "value_range(0, 0)",
        "value_range(1, -1)",
        "value_range(-1, 1, 5, 5)",
        "inception_crop(50, 10)",
    ],
)
def test_refused_when_run(spec):
    with pytest.raises(UserError, match="smaller bounds first") as caught:
        Pipeline.parse(spec)({"image": IMAGE}, np.random.default_rng(0))
    assert not isinstance(caught.value, DataError)  # `on_bad_example=skip` would hide it


@pytest.mark.parametrize(
    "spec",
    ["resize((4, 9))", "flip_lr(0)", "flip_lr(1)", "inception_crop(100, 100)", "pad_to_square(0.5)",
     "value_range(0, 1, 0, 100, True)", "decode(frames=None)", "keep()", "setdefault('a', None)"],
)  # fmt: skip
def test_accepted(spec):
    Pipeline.parse(spec)({"image": IMAGE}, np.random.default_rng(0))
