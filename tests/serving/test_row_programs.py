"""The compiled programs: what a row answers is what `Model.generate` answers, whoever is beside."""

import pytest
from test_engine import Asked

import pgjax
from pgjax.data.scenes import SceneSource
from pgjax.errors import UserError
from pgjax.serving.engine import Engine, compile_all
from pgjax.serving.prompt_reader import PromptReader
from pgjax.serving.row_programs import RowPrograms

LIMIT = 16  # tokens of an answer, and columns of the ring


@pytest.fixture(scope="module")
def model():
    return pgjax.load("tiny", mesh={"data": 1, "model": -1})


@pytest.fixture(scope="module")
def scenes():
    tasks = ("caption", "detect", "count")
    source = SceneSource("serving_test", tasks=tasks, max_shapes=2, wording="pt")
    return [source[i] for i in range(10)]


def job_of(reader, scene, **options):
    asked = Asked(limit=LIMIT, **options)
    inputs = reader._prepared(scene["image"], scene["prefix"])
    object.__setattr__(asked.job, "inputs", inputs)
    return asked


def answers(model, asked, rows=2):
    """Tokens of jobs that are submitted at once."""
    reader = PromptReader(model, 32, None)
    programs = RowPrograms(model, reader.example, rows, 32, LIMIT)
    engine = Engine(programs, model.context.tokenizer, 100)
    try:
        made = [job_of(reader, scene, **options) for scene, options in asked]
        for one in made:
            engine.submit([one.job])
        return [one.answer() for one in made]
    finally:
        assert engine.close(60)


def generated(model, scene, **options):
    answer = model.generate(
        scene["image"], scene["prefix"], max_new_tokens=LIMIT, return_answers=True, **options
    )
    return answer.tokens.tolist()


def test_greedy_answers_are_those_of_load(model, scenes):
    """Ten answers share two rows, so that the ring of 16 columns comes round several times."""
    got = answers(model, [(scene, {}) for scene in scenes])
    assert got == [generated(model, scene) for scene in scenes]
    assert len({len(tokens) for tokens in got}) > 1


@pytest.mark.slow
def test_sampled_answers_are_those_of_load(model, scenes):
    """Rows of every kind beside each other; read one by one and four at a time."""
    ways = [
        ({"temperature": 1.5, "seed": 3}, {"sampler": "temperature(1.5)", "seed": 3}),
        ({"temperature": 2.0, "top_p": 0.9, "seed": 4}, {"sampler": "nucleus(0.9, 2)", "seed": 4}),
        ({}, {}),
        ({"temperature": 1.5, "seed": 5}, {"sampler": "temperature(1.5)", "seed": 5}),
    ]
    asked = [(scene, ways[i % 4][0]) for i, scene in enumerate(scenes)]
    want = [generated(model, scene, **ways[i % 4][1]) for i, scene in enumerate(scenes)]
    assert answers(model, asked, rows=8) == want


@pytest.mark.slow
def test_everything_can_be_compiled_beforehand(model):
    reader = PromptReader(model, 20, None)
    assert RowPrograms(model, reader.example, 6, 20, LIMIT).sizes() == [1, 2, 4, 6]
    programs = RowPrograms(model, reader.example, 1, reader.longest_prompt, LIMIT)
    assert programs.sizes() == [1] and programs.widths() == [16, 20]
    compile_all(programs, reader.example)
    assert programs._join._cache_size() == 2 and programs._go_on._cache_size() == 1


@pytest.mark.slow
def test_devices_share_each_row(command):
    """On two devices, which split heads, hidden units and the vocabulary."""
    code = (
        "import sys; sys.path[:0] = ['tests/serving', 'tests']\n"
        "import test_row_programs as t, pgjax\n"
        "model = pgjax.load('tiny', mesh={'data': 1, 'model': -1})\n"
        "assert model.context.mesh.shape['model'] == 2\n"
        "source = t.SceneSource('two', tasks=('caption',), max_shapes=1, wording='pt')\n"
        "scenes = [source[i] for i in range(4)]\n"
        "got = t.answers(model, [(scene, {}) for scene in scenes])\n"
        "assert got == [t.generated(model, scene) for scene in scenes], got\n"
    )
    command("-c", code, devices=2)


def test_batches_that_are_split_are_refused(model):
    class Split:
        context = type("", (), {"mesh": type("", (), {"shape": {"data": 2}})})

    with pytest.raises(UserError, match="splits batches over 2 devices"):
        RowPrograms(Split, {}, 2, 32, 16)
