"""Targets of detection that noise boxes fill up, read token by token."""

import collections

import numpy as np
import pytest

from pgjax.data.pipeline import Pipeline
from pgjax.errors import DataError
from pgjax.text.compose import DropExample
from pgjax.text.locations import parse_boxes
from pgjax.text.tokenizer import Tokenizer

BOXES = [
    "<loc0000><loc0512><loc0256><loc1023> red square",
    "<loc0102><loc0205><loc0900><loc1000> dog",
    "<loc0300><loc0300><loc0333><loc0400> dog",
]
PROMPT = "detect all classes"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.tiny()


def arrays(tokenizer, suffix, spec="for_detection(90, 6)", seed=0):
    pipeline = Pipeline.parse(spec, tokenizer)
    return pipeline({"prefix": PROMPT, "suffix": suffix}, rng=np.random.default_rng(seed))


def objects(tokenizer, text, mask_loss):
    """[(four locations, tokens of the label, mask of all these)] of a target."""
    ids, mask = text.tolist(), mask_loss.tolist()
    prompt = tokenizer.encode(PROMPT, bos=True) + list(tokenizer.newline_ids)
    assert ids[: len(prompt)] == prompt and not any(mask[: len(prompt)])
    end = ids.index(tokenizer.eos_id)
    assert mask[end] == 1 and not any(ids[end + 1 :]) and not any(mask[end + 1 :])
    found, first, separator = [], tokenizer.loc_id(0), tokenizer.encode(" ; ")
    i = len(prompt)
    while i < end:
        stop = next((k for k in range(i, end) if ids[k] == separator[0]), end)
        found.append(([x - first for x in ids[i : i + 4]], ids[i + 4 : stop], mask[i:stop]))
        if stop < end:
            assert ids[stop : stop + len(separator)] == separator
        i = stop + len(separator)
    return found


@pytest.mark.parametrize("count", [0, 1, 3])
def test_noise_fills_up_and_only_its_class_is_learned(tokenizer, count):
    out = arrays(tokenizer, " ; ".join(BOXES[:count]))
    assert all(out[k].shape == (91,) and out[k].dtype == np.int32 for k in ("text", "mask_loss"))
    found = objects(tokenizer, out["text"], out["mask_loss"])
    assert len(found) == 6
    for box, label, mask in found[:count]:
        assert tokenizer.unk_id not in label and all(mask)
        assert all(0 <= x < 1024 for x in box)
    for box, label, mask in found[count:]:
        assert label == [tokenizer.unk_id] and mask == [0, 0, 0, 0, 1]
        assert 0 <= box[0] < box[2] < 1024 and 0 <= box[1] < box[3] < 1024
    ids = out["text"]
    suffix = out["mask_ar"].astype(bool)
    text = tokenizer.decode(ids[suffix].tolist())
    real = collections.Counter(parse_boxes(text)[:count])
    assert real == collections.Counter(parse_boxes(" ; ".join(BOXES[:count])))


def test_real_boxes_have_the_tokens_of_their_text(tokenizer):
    """As many objects as there are: nothing but their order differs from the plain recipe."""
    out = arrays(tokenizer, " ; ".join(BOXES), "for_detection(60, 3)")
    boxes = parse_boxes(tokenizer.decode(out["text"][out["mask_loss"] > 0].tolist()))
    order = [next(x for x in BOXES if parse_boxes(x)[0] == box) for box in boxes]
    plain = Pipeline.parse("for_training(60)", tokenizer)(
        {"prefix": PROMPT, "suffix": " ; ".join(order)}, rng=np.random.default_rng(0)
    )
    for key in ("text", "mask_ar", "mask_loss"):
        np.testing.assert_array_equal(out[key], plain[key])


def test_order_and_noise_are_drawn_anew(tokenizer):
    orders, noise = set(), set()
    for seed in range(40):
        out = arrays(tokenizer, " ; ".join(BOXES), seed=seed)
        found = objects(tokenizer, out["text"], out["mask_loss"])
        orders.add(tuple(tuple(box) for box, _, _ in found[:3]))
        noise.add(tuple(tuple(box) for box, _, _ in found[3:]))
    assert len(orders) == 6 and len(noise) == 40
    one, again = (arrays(tokenizer, BOXES[0], seed=3)["text"] for _ in range(2))
    np.testing.assert_array_equal(one, again)


def test_kinds_of_noise(tokenizer):
    """Near a box, made of the extents of two, mirrored or not, and any."""
    y, x = [(102, 900), (300, 333)], [(205, 1000), (300, 400)]
    y, x = ([*side, *((1024 - b, 1024 - a) for a, b in side)] for side in (y, x))
    made, near, other = set(), 0, 0
    for seed in range(60):
        out = arrays(tokenizer, " ; ".join(BOXES[1:]), seed=seed)
        for box, _, _ in objects(tokenizer, out["text"], out["mask_loss"])[2:]:
            if (box[0], box[2]) in y and (box[1], box[3]) in x:
                made.add(tuple(box))
            elif np.abs(np.subtract(box, (102, 205, 900, 1000))).max() <= 0.1 * 798 + 2:
                near += 1
            else:
                other += 1
    assert len(made) == 16 and near > 15 and other > 45  # of 240


def test_what_does_not_fit(tokenizer):
    suffix = " ; ".join(BOXES)
    with pytest.raises(DataError, match="has 3 objects, but targets have 2"):
        arrays(tokenizer, suffix, "for_detection(90, 2)")
    with pytest.raises(DropExample):
        arrays(tokenizer, suffix, "for_detection(90, 2, on_truncate='drop')")
    out = arrays(tokenizer, suffix, "for_detection(90, 2, on_truncate='truncate')")
    assert out["_truncated"] and len(objects(tokenizer, out["text"], out["mask_loss"])) == 2
    with pytest.raises(DataError, match="only 31 fit; raise text_len"):
        arrays(tokenizer, suffix, "for_detection(30, 6)")
    with pytest.raises(DataError, match="is no list of objects"):
        arrays(tokenizer, "a red square")
    with pytest.raises(DataError, match="an object with no label"):
        arrays(tokenizer, "<loc0000><loc0512><loc0256><loc1023>")
    with pytest.raises(DataError, match="The suffix is a list"):
        arrays(tokenizer, BOXES)
