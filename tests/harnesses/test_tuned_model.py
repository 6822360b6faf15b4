"""Answers to a harness are those that the benchmark's config gets from the same checkpoint."""

import numpy as np
import pytest

from pgjax.commands.config_files import read_config
from pgjax.data.memory_source import hold
from pgjax.evaluation.evaluators import make_evaluator
from pgjax.harnesses.tuned_model import TunedModel


class Source:
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]

    def where(self, index):
        return f"row {index}"


def rows(count):
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.integers(0, 256, (40 + i, 90, 3), np.uint8),  # resizing matters
            "question": ("count square", "color of circle", "shape of red")[i % 3],
            "answers": ["x"],
        }
        for i in range(count)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("benchmark", "config"), [("docvqa_val", "docvqa"), ("COCO_VAL", "cococap")]
)
def test_answers_are_those_of_the_config(benchmark, config, capsys):
    """With its image operations, prompt, length and sampler, in batches of other sizes."""
    data = rows(5)
    model = TunedModel("tiny", batch_size=2)
    found = list(model.answers(benchmark, Source(data)))
    spec = next(iter(read_config(f"{config}:mini").evals.values())).to_dict()
    spec["data"] = {"name": "memory", "rows": hold(data)}
    evaluator = make_evaluator("same", spec, model.model.context)
    records = evaluator.run(model.model.params).records
    assert found == [record["prediction"] for record in records]
    assert f"the prompts of {config} are made by strfmt(" in capsys.readouterr().err


@pytest.mark.slow
def test_a_prompt_of_ones_own():
    data = rows(3)
    model = TunedModel("tiny", prompt="color of {question}")
    for row, kind in zip(data, ("circle", "square", "cross"), strict=True):
        row["question"] = kind
    found = list(model.answers("a benchmark that nobody knows", Source(data)))
    prompts = [f"color of {row['question']}" for row in data]
    assert found == model.model.generate([row["image"] for row in data], prompts)
