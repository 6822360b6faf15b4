"""The model for VLMEvalKit as that calls it: prompts first, then answers from several threads."""

import base64
import concurrent.futures

import pytest

from pgjax.errors import UserError
from pgjax.harnesses import vlmeval


class Recorded:
    """Answers with the questions, and keeps which were asked together."""

    def __init__(self, checkpoint, **options):
        self.calls = []

    def answers(self, benchmark, source):
        rows = [source[i] for i in range(len(source))]
        self.calls.append((benchmark, [row["question"] for row in rows]))
        return (f"{row['question']} {len(row['image'])}" for row in rows)


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(vlmeval, "TunedModel", Recorded)
    return vlmeval.Pgjax("tiny", batch_size=1)


def line(number):
    return {
        "index": number,
        "question": f"q{number}",
        "image": base64.b64encode(bytes(number)).decode(),
    }


def test_answers_in_batches_ahead(model):
    asked = [model.build_prompt(line(i), dataset="DocVQA_VAL") for i in range(1, 21)]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda q: model.generate(message=q, dataset="DocVQA_VAL"), asked))
    assert found == [f"q{i} {i}" for i in range(1, 21)]
    calls = model._model.calls
    assert [len(questions) for _, questions in calls] == [8, 8, 4]  # each is asked once
    assert not model._waiting


def test_benchmarks_are_not_mixed(model):
    """What an interrupted run left lined up does not disturb the next benchmark."""
    model.build_prompt(line(1), dataset="DocVQA_VAL")
    second = model.build_prompt(line(2), dataset="ChartQA_TEST")
    assert model.generate(second) == "q2 2"
    assert model._model.calls == [("ChartQA_TEST", ["q2"])]


def test_files_of_images(model, tmp_path):
    (tmp_path / "a.png").write_bytes(bytes(7))
    model.set_dump_image(lambda line: [str(tmp_path / name) for name in line["image_path"]])
    one = {"index": 1, "question": "q1", "image_path": ["a.png"]}
    assert model.generate(model.build_prompt(one, dataset="X")) == "q1 7"
    several = {**one, "image_path": ["a.png", "a.png"]}
    with pytest.raises(UserError, match="2 images, expected one"):
        model.generate(model.build_prompt(several, dataset="X"))
