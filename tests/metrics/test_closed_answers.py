"""Multiple choice, ScienceQA, POPE, MMVP, counting and means by type beyond the golden rows."""

import itertools

import numpy as np
import pytest

from pgjax.errors import DataError, UserError
from pgjax.metrics import get_metric
from pgjax.metrics.anls import edit_distance


def record(prediction, *answers, **more):
    return {"prediction": prediction, "answers": list(answers), **more}


def test_edit_distance_by_recursion():
    def slow(a, b):
        if not a or not b:
            return len(a) + len(b)
        change = slow(a[1:], b[1:]) + (a[0] != b[0])
        return min(change, slow(a[1:], b) + 1, slow(a, b[1:]) + 1)

    words = ["".join(w) for n in range(4) for w in itertools.product("ab", repeat=n)]
    for a, b in itertools.product(words, words):
        assert edit_distance(a, b) == slow(a, b)


def test_multiple_choice():
    metric = get_metric("multiple_choice")
    meta = {"suffix": "Roof", "choices": ["Roof", "Door"]}
    assert metric("Roof", meta) == {"acc": 1.0, "valid": 1.0}
    assert metric("Door", meta) == {"acc": 0.0, "valid": 1.0}
    assert metric("roof", meta) == {"acc": 0.0, "valid": 0.0}
    assert get_metric("multiple_choice", lower=True)("roof", meta)["acc"] == 1.0
    assert metric("Roof", {"answers": ["Roof"]}) == {"acc": 1.0}
    assert metric("Roof", {"answers": [], "choices": ["Roof"]}) == {}


def test_an_unreadable_answer_is_never_right():
    metric = get_metric("science_qa")
    assert metric("B", {"suffix": "B"}) == {"acc": 0.0, "parsed": 0.0}
    assert metric("The answer is B.", {"suffix": "B"})["acc"] == 0.0
    assert metric("The answer is B.", {"answers": []}) == {}


def test_pope_unlabelled_and_degenerate():
    metric = get_metric("pope")
    records = [record("yes", "yes"), record("no"), record("No", "no")]
    assert metric(records)["acc"] == 1 and "scores" not in records[1]
    never = metric([record("maybe", "yes")])
    assert never == dict.fromkeys(never, 0.0)
    with pytest.raises(DataError, match="'yes' or 'no'"):
        metric([record("yes", "maybe")])


def test_mmvp():
    metric = get_metric("mmvp")
    answers = [("a", "A", 1), ("b", "b", 1), ("a", "a", 2), ("a", "b", 2), ("a", "a", 3)]
    records = [record(p, a, pair=n) for p, a, n in answers]
    assert metric(records) == {"acc": 1 / 2, "acc_single": 4 / 5, "pairs": 2}
    assert [r["scores"]["acc_single"] for r in records] == [1, 1, 1, 0, 1]
    with pytest.raises(DataError, match="pair 1 has 3"):
        metric([record("a", "a", pair=1)] * 3)
    with pytest.raises(DataError, match="'pair'"):
        metric([record("a", "a")])


def test_counting():
    metric = get_metric("counting")
    assert metric("Twenty", {"suffix": "20"}) == {"acc": 1, "valid": 1, "acc/count_20": 1}
    assert metric("many", {"suffix": "3"}) == {"acc": 0, "valid": 0, "acc/count_3": 0}
    assert metric("3", {"answers": []}) == {}
    tally = get_metric("tallyqa")
    assert tally("3", {"suffix": "3", "issimple": 0})["acc/complex"] == 1
    assert tally("3", {"answers": [], "issimple": 0}) == {}


def test_types_weigh_the_same():
    records = [record("x", "x", language="en")] * 9 + [record("x", "y", language="sw")]
    records = [dict(r) for r in records] + [record("x", language="tr")]
    apart = get_metric("accuracy_by_type", key="language", apart="en")([dict(r) for r in records])
    scores = get_metric("accuracy_by_type", key="language")(records)
    others = [v for k, v in scores.items() if k.startswith("acc/") and k != "acc/en"]
    assert apart == {**scores, f"acc/avg{len(others)}": sum(others) / len(others)}
    assert scores == {"acc": 0.5, "acc_all": 0.9, "acc/en": 1.0, "acc/sw": 0.0}
    assert [r.get("scores") for r in records[-2:]] == [{"acc_all": 0.0}, None]


def test_any_type_may_occur():
    records = [record("3", "3", question_type="never seen"), record("x", "y", question_type=7)]
    assert get_metric("accuracy_by_type")(records)["acc/7"] == 0
    with pytest.raises(DataError, match="question_type other than"):
        get_metric("accuracy_by_type", exclude=["never seen", 7])(records)
    with pytest.raises(DataError, match="'language'"):
        get_metric("accuracy_by_type", key="language")(records)
    with pytest.raises(UserError, match=r"'anls'.*exact_match"):
        get_metric("accuracy_by_type", metric="anls")(records)


def test_chart_types():
    records = [record("10.4", "10", kind="human"), record("11", "10", kind="augmented")]
    scores = get_metric("accuracy_by_type", metric="relaxed_accuracy", key="kind")(records)
    assert scores["acc"] == 0.5 and scores["acc/human"] == 1


class TestSegmentation:
    mask = np.zeros((20, 10), bool)
    mask[5:15, 2:8] = True
    answer = "<loc0256><loc0205><loc0768><loc0819>" + "<seg000>" * 16

    def metric(self):
        def draw(codes, box, size):
            assert codes == (0,) * 16 and size == (20, 10)
            drawn = np.zeros(size, bool)
            y0, x0, y1, x1 = (int(v * s) for v, s in zip(box, size * 2, strict=True))
            drawn[y0:y1, x0:x1] = True
            return drawn

        return get_metric("segmentation", draw=draw)

    @pytest.mark.parametrize("kind", ["array", "bytes", "text"])
    def test_mask_formats(self, kind):
        mask = self.mask
        if kind != "array":
            codec = pytest.importorskip("pycocotools.mask")
            mask = codec.encode(np.asfortranarray(self.mask.astype(np.uint8)))
            if kind == "text":
                mask = {"size": np.array(mask["size"]), "counts": mask["counts"].decode()}
        scores = self.metric()(self.answer, {"mask": mask})
        assert scores == {"miou": 1, "boxacc/0.5": 1, "boxacc/0.75": 1, "valid": 1}

    def test_overlap(self):
        """Rows 5 … 14 of 20 there, 5 … 19 found; the same columns."""
        longer = self.answer.replace("<loc0768>", "<loc1023>")
        scores = self.metric()(longer, {"mask": self.mask})
        assert scores["miou"] == pytest.approx(10 / 15)
        assert (scores["boxacc/0.5"], scores["boxacc/0.75"]) == (1, 0)

    @pytest.mark.parametrize("text", ["", "cat", "<loc0001>" * 4 + "<seg000>" * 16, answer[:-9]])
    def test_no_mask(self, text):
        scores = self.metric()(text, {"mask": self.mask})
        assert scores == dict.fromkeys(scores, 0.0)

    def test_unusable_references(self):
        with pytest.raises(DataError, match="'mask'"):
            self.metric()(self.answer, {})
        with pytest.raises(DataError, match="at least one pixel.*has 0"):
            self.metric()(self.answer, {"mask": np.zeros((4, 4))})
