"""Measured beside published: units, differences, intervals, splits."""

import json

import numpy as np
import pytest

from pgjax.benchmarks.published import FINE_TUNED, PLAIN, PUBLISHED
from pgjax.checkpoints import released
from pgjax.errors import UserError
from pgjax.evaluation.score_table import HEADER, folder_rows
from pgjax.evaluation.store import Store
from pgjax.evaluation.stored_evaluation import read_evaluations


def finished(folder, records, scores, published="", res=448, metric=None, split="validation"):
    data = {"name": "prepared", "split": split}
    identity = {"kind": "answers", "data": data, "metric": metric or {}}
    about = {"checkpoint": "ft", "benchmark": "b", "res": res, "published": published}
    about["main_score"] = ["acc", False]
    store = Store(folder, "val", identity, about)
    for i, record in enumerate(records):
        store.add({"index": i, "prediction": "", **record})
    store.finish()
    (folder / "scores.json").write_text(json.dumps({"val": scores}))
    return {row.score: row for row in folder_rows(folder, PUBLISHED, PLAIN)}


def test_percent_beside_fraction(tmp_path):
    values = [1.0] * 80 + [0.3] * 20
    records = [{"scores": {"acc": v, "acc/other": v}} for v in values]
    scores = {"acc": 0.86, "acc/other": 0.86, "examples": 100, "skipped": 1}
    rows = finished(tmp_path, records, scores, "vqav2")
    assert rows.keys() == {"acc", "acc/other"}
    cells = dict(zip(HEADER, rows["acc"].cells(), strict=True))
    low, high = map(float, cells.pop("95 %").split("–"))
    assert cells == {
        "checkpoint": "ft", "benchmark": "b", "evaluation": "val", "score": "acc",
        "measured": "86.00", "published": "85.64", "difference": "+0.36",
        "published on": "test-std (here: validation)",
    }  # fmt: skip
    # The spread of a mean of 100, on both sides.
    spread = 100 * np.std(values) / 10
    assert 86 - low == pytest.approx(1.96 * spread, rel=0.1)
    assert high - 86 == pytest.approx(1.96 * spread, rel=0.1)
    assert rows["acc/other"].cells()[4:] == ("86.00", rows["acc"].cells()[5], "", "", "")


def test_scores_that_are_published_as_measured(tmp_path):
    records = [{"scores": {"cider": 1.7}}, {"scores": {"cider": 1.9}}]
    rows = finished(tmp_path, records, {"cider": 1.8, "bleu4": 0.2}, "scicap", split="test")
    assert rows["cider"].cells()[4] == "180.00" and rows["cider"].cells()[6:] == (
        "181.49", "-1.49", "test",
    )  # fmt: skip
    assert rows["bleu4"].cells()[4:] == ("0.200", "", "0.211", "-0.011", "test")


def test_without_a_published_score(tmp_path):
    records = [{"scores": {"acc": 1.0}}]
    rows = finished(tmp_path / "a", records, {"acc": 1.0})
    assert rows["acc"].cells()[4:] == ("1.000", "1.000–1.000", "", "", "")
    rows = finished(tmp_path / "b", records, {"acc": 1.0}, "vqav2", res=896)  # not published
    assert rows["acc"].cells()[4:] == ("100.00", "100.00–100.00", "", "", "")
    rows = finished(tmp_path / "c", records, {"anls": 0.5}, "vqav2")  # nor measured
    assert rows["acc"].cells()[4:6] == ("", "") and rows["acc"].cells()[6] == "85.64"
    with pytest.raises(UserError, match="holds no finished evaluation"):
        read_evaluations(tmp_path)


def test_means_over_types_have_intervals_by_type_only(tmp_path):
    """The mean over types is no mean over questions."""
    records = [{"type": t, "scores": {"acc_all": v}} for t, v in [("a", 1.0)] * 9 + [("b", 0.0)]]
    scores = {"acc": 0.5, "acc_all": 0.9, "acc/a": 1.0, "acc/b": 0.0}
    rows = finished(tmp_path, records, scores, metric={"key": "type"})
    assert rows["acc"].interval is None
    assert rows["acc/a"].interval == (1, 1, 1) and rows["acc/b"].interval == (0, 0, 0)
    assert rows["acc_all"].interval.low < 0.9


def test_the_published_table():
    assert len(PUBLISHED) == 186
    assert PUBLISHED["pg2-10b_refcoco_seg_testA"]["scores"]["miou"] == {224: 77.2, 448: 79.7}
    assert PUBLISHED["pg2-3b_vatex_cap"]["scores"]["cider"] == {224: 80.8}
    assert "pg2-28b_vatex_cap" not in PUBLISHED
    for name, row in PUBLISHED.items():
        assert row["split"] and row["scores"], name
        for by_res in row["scores"].values():
            assert by_res and by_res.keys() <= {224, 448, 896}, name
    assert PUBLISHED["vqav2"]["scores"]["acc"] == {224: 83.19, 448: 85.64}
    assert PUBLISHED["docvqa"]["scores"]["anls"][896] == 84.77
    quoted = {
        name: [next(iter(PUBLISHED[k]["scores"].values()))[int(name[-3:])] for k in keys]
        for name, keys in FINE_TUNED.items()
    }
    assert quoted == {  # the announcement
        "ft-vqav2-448": [85.64],
        "ft-cococap-448": [144.6],
        "ft-science-qa-448": [95.93],
        "ft-refcoco-seg-896": [76.94, 72.18, 72.22],
        "ft-rsvqa-hr-224": [92.61, 90.58],
    }


def test_released_checkpoints_tell_their_scores():
    told = {name: released.get(name).score for name in ("ft-vqav2-448", "ft-docvqa-896", "pt-224")}
    assert told == {"ft-vqav2-448": "85.64", "ft-docvqa-896": "84.77", "pt-224": ""}
    assert "ft-tallyqa-224                 224   81.72" in released.describe()


def test_configs_name_published_scores_that_exist():
    from pgjax.commands.config_files import packaged_configs, read_configs

    transfers = [n for n, file in packaged_configs().items() if file.parent.name == "transfers"]
    assert len(transfers) > 30
    named = set()
    for config in read_configs([f"{name}:variant=tiny" for name in transfers]).values():
        named |= {spec.get("published", "") for spec in config.evals.values()}
    assert named <= PUBLISHED.keys() | {""}


def test_a_folder_that_does_not_name_its_main_score(tmp_path):
    """As pgjax wrote them before metrics declared it."""
    finished(tmp_path, [{"scores": {"loss": 1.0}}], {"loss": 1.0})
    stored = json.loads((tmp_path / "val.json").read_text())
    del stored["about"]["main_score"]
    for kind, metric, main in (
        ("perplexity", {"name": "exact_match"}, ("loss", True)),
        ("answers", {"name": "cider", "bleu": True}, ("cider", False)),
    ):
        stored["identity"] |= {"kind": kind, "metric": metric}
        (tmp_path / "val.json").write_text(json.dumps(stored))
        assert read_evaluations(tmp_path)["val"].main_score == main
