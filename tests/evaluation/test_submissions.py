"""Submissions equal files written by hand after the servers' descriptions."""

import json
import zipfile

import pytest

from pgjax.errors import DataError
from pgjax.evaluation.submissions import FORMATS, write_submission

# One record with every id, as the readers of official files name them.
RECORD = {"index": 0, "prediction": "a “red” café", "question_id": 42, "image_id": 139}
RECORDS = [RECORD, {**RECORD, "index": 1, "question_id": "7", "prediction": "yes", "image_id": 5}]

EXPECTED = {
    "vqav2": """[
{"question_id": 42, "answer": "a “red” café"},
{"question_id": 7, "answer": "yes"}
]
""",
    "docvqa": """[
{"questionId": 42, "answer": "a “red” café"},
{"questionId": 7, "answer": "yes"}
]
""",
    "gqa": """[
{"questionId": "42", "prediction": "a “red” café"},
{"questionId": "7", "prediction": "yes"}
]
""",
    "nocaps": """[
{"image_id": 139, "caption": "a “red” café"},
{"image_id": 5, "caption": "yes"}
]
""",
    "aokvqa_da": """{
"42": {"direct_answer": "a “red” café"},
"7": {"direct_answer": "yes"}
}
""",
    "aokvqa_mc": """{
"42": {"multiple_choice": "a “red” café"},
"7": {"multiple_choice": "yes"}
}
""",
}
for name, like in {
    "okvqa": "vqav2", "textvqa": "vqav2", "stvqa": "vqav2", "infovqa": "docvqa",
}.items():  # fmt: skip
    EXPECTED[name] = EXPECTED[like]


@pytest.mark.parametrize("name", EXPECTED)
def test_json(name, tmp_path):
    path = write_submission(name, iter(RECORDS), tmp_path / "test")
    assert path == tmp_path / "test.submission.json"
    assert path.read_text() == EXPECTED[name]
    json.loads(path.read_text())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_ids_that_are_text(tmp_path):
    images = [
        {"index": 0, "image_id": "VizWiz_test_00000000.jpg", "prediction": "unanswerable"},
        {"index": 1, "image_id": "0054c91397f2fe05", "prediction": "a sign"},
    ]
    path = write_submission("vizwizvqa", images[:1], tmp_path / "a")
    assert json.loads(path.read_text()) == [
        {"image": "VizWiz_test_00000000.jpg", "answer": "unanswerable"}
    ]
    path = write_submission("textcaps", images[1:], tmp_path / "b")
    assert json.loads(path.read_text()) == [{"image_id": "0054c91397f2fe05", "caption": "a sign"}]


@pytest.mark.parametrize(
    "name, inside, content",
    [
        ("cococap_val", "captions_val2014_pgjax_results.json",
         [{"image_id": 139, "caption": "a “red” café"}, {"image_id": 5, "caption": "yes"}]),
        ("cococap_test", "captions_test2014_pgjax_results.json",
         [{"image_id": 139, "caption": "a “red” café"}, {"image_id": 5, "caption": "yes"}]),
        ("vatex_cap", "submission.json", {"G9zN5TTuGO4_000179_000189": "a “red” café", "b": "yes"}),
    ],
)  # fmt: skip
def test_zip(name, inside, content, tmp_path):
    records = [
        {**r, "video_id": v}
        for r, v in zip(RECORDS, ["G9zN5TTuGO4_000179_000189", "b"], strict=True)
    ]
    path = write_submission(name, records, tmp_path / "test")
    assert path.name == "test.submission.zip"
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [inside]
        assert json.loads(archive.read(inside)) == content


def test_all_formats_are_tested():
    assert set(FORMATS) == {
        *EXPECTED, "cococap_val", "cococap_test", "vatex_cap", "vizwizvqa", "textcaps"
    }  # fmt: skip


def test_mistakes(tmp_path):
    with pytest.raises(
        DataError, match="'vqav2' needs 'question_id' of every example, but record 0"
    ):
        write_submission("vqav2", [{"index": 0, "prediction": "x"}], tmp_path / "a")
    assert not (tmp_path / "a.submission.json").exists()
