"""All benchmarks alike: config, and fixture → prepare → a training step → evaluation → score."""

import importlib.util
import json
import math

import numpy as np
import pytest
from conftest import ROOT, TESTS
from rows import ROWS

from pgjax.benchmarks.preparation import FORMATS, prepare
from pgjax.benchmarks.readers import READERS
from pgjax.config import check_training, parse_config
from pgjax.errors import UserError
from pgjax.recipes import adapted


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def get_config(name, arg):
    return adapted(load(ROOT / "transfers" / f"{name}.py").get_config(arg))


def make(name, folder):
    """Writes the fixture; what has to be found in it."""
    return load(TESTS / "benchmarks" / f"make_{name}.py").make(folder)


DATA = {name: options for row in ROWS.values() for name, options in row.data.items()}


def test_no_transfer_is_missing():
    assert {p.stem for p in (ROOT / "transfers").glob("*.py")} == {"__init__", "forkme", *ROWS}
    assert {p.stem[5:] for p in (TESTS / "benchmarks").glob("make_*.py")} == set(DATA)
    assert set(READERS) == set(DATA)


def test_transfers_are_short():
    lengths = [len(p.read_text().splitlines()) for p in (ROOT / "transfers").glob("*.py")]
    assert sum(lengths) / len(lengths) < 40


@pytest.mark.parametrize("name", ROWS)
def test_config(name):
    row = ROWS[name]
    for res in row.res:
        config = get_config(name, f"res={res}")
        parsed = parse_config(config)
        if row.trains:
            check_training(parsed)
        assert config.model.res == res and str(res) in config.init
        assert bool(config.input.data) == row.trains
        config.data_dir = "elsewhere"
        sources = [spec.data for spec in config.evals.values()]
        sources += [config.input.data] if row.trains else []
        assert {source.data_dir for source in sources} == {"elsewhere"}
        assert {source.dataset for source in sources} == set(row.data)
        for source in sources:
            for part in source.split.split("+"):
                assert part.partition("[")[0] in READERS[source.dataset].splits
    assert get_config(name, "mode=attention").optimizer.name == "sgd"


@pytest.mark.parametrize("name", DATA)
def test_prepare(name, tmp_path):
    """What is found is what the fixture has, the same in both formats."""
    from pgjax.data.sources import make_source

    expected = make(name, tmp_path / "source")
    for form in FORMATS:
        out = tmp_path / form
        options = {"workers": 0, "format": form, **DATA[name]}
        if any(READERS[name].splits.values()):
            with pytest.raises(UserError, match="not the official numbers"):
                prepare(name, tmp_path / "source", out, **options)
        report = prepare(name, tmp_path / "source", out, check_counts=False, **options)
        assert report["unreadable"] == []
        assert {s: row["examples"] for s, row in report["splits"].items()} == {
            split: len(rows) for split, rows in expected.items()
        }
        spec = {"name": "prepared", "dataset": name, "data_dir": str(out)}
        for split, rows in expected.items():
            source = make_source({**spec, "split": split})
            for i, row in enumerate(rows):
                example = source[i]
                assert {key: _plain(example[key]) for key in row} == row
                images = example["image"]
                assert all(type(x) is bytes for x in (images if type(images) is list else [images]))


def _plain(value):
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_fixture_to_score(name, tmp_path, monkeypatch):
    """As a user would: prepare, then train a step, which ends with the evaluations.

    With a random PaliGemma 2; other tests train and evaluate the tiny PaliGemma.
    """
    from pgjax.evaluation.runner import evaluate
    from pgjax.loading.model_context import open_model_context
    from pgjax.loading.parameters import load_parameters
    from pgjax.training.loop import train

    row = ROWS[name]
    for data, options in row.data.items():
        make(data, tmp_path / data)
        prepare(data, tmp_path / data, tmp_path / "data", workers=0, check_counts=False, **options)
    config = get_config(name, "mini,variant=pg2-tiny")
    config.data_dir = str(tmp_path / "data")
    config = parse_config(config)
    if row.trains:
        scores = train(config, tmp_path / "run")
        predictions = tmp_path / "run" / "predictions"
    else:
        context = open_model_context(config)
        params = load_parameters(context, dict.fromkeys(context.shapes, "float32"))
        predictions = tmp_path / "evaluation"
        scores = evaluate(context, params, config.evals, None, predictions)
    assert scores.keys() == config.evals.keys()
    for key, values in scores.items():
        assert all(map(math.isfinite, values.values())) and values["examples"] > 0
        (path,) = predictions.glob(f"{key}_1.jsonl" if row.trains else f"{key}.jsonl")
        lines = path.read_text().rstrip("\n").split("\n")
        assert len(lines) == values["examples"]
        if config.evals[key].kind == "answers":
            assert all("prediction" in json.loads(line) for line in lines)


def test_tables_of_the_announcement(monkeypatch):
    """Every score of them is measured, at its checkpoint."""
    from pgjax.benchmarks.published import FINE_TUNED, PUBLISHED
    from pgjax.commands.config_files import read_configs

    monkeypatch.chdir(ROOT)
    fine_tuned = load(ROOT / "configs" / "ft_scores.py").get_config()
    inits = [text.partition("init=")[2] for text in fine_tuned]
    assert inits == [*FINE_TUNED]
    mix = load(ROOT / "configs" / "mix_eval.py").get_config("res=448")
    assert mix == ("mmvp:res=448,init=mix-448", "pope:res=448,init=mix-448")
    for given in (["mix_eval:res=448", "ft_scores"], ["configs/mix_eval.py:res=448", "ft_scores"]):
        assert [*read_configs(given)] == [*mix, *fine_tuned]
    for texts, wanted in (
        (fine_tuned, {name for names in FINE_TUNED.values() for name in names}),
        (mix, {name for name in PUBLISHED if name.startswith("mix_")}),
    ):
        published = set()
        for text in texts:
            name, _, arg = text.partition(":")
            config = load(ROOT / "transfers" / f"{name}.py").get_config(arg)
            assert config.init in text
            published |= {spec.get("published", "") for spec in config.evals.values()}
        assert published >= wanted
