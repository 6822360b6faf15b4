"""Which step of a run is the best, and when it ends early."""

import json
import math
import types

import pytest

from pgjax.config import parse_config
from pgjax.errors import ConfigError, UserError
from pgjax.evaluation.main_score import MainScore
from pgjax.loading.best_checkpoint import TrackedScore
from pgjax.training.judge import Judge
from pgjax.training.setup import tracked_score

NAN = float("nan")


def run_of(folder, keep="", metric="", patience=0, steps=(), lowest=False):
    """What of a run a judge looks at."""
    main = types.SimpleNamespace(main=MainScore("acc", lowest))
    stopping = types.SimpleNamespace(metric=metric, patience=patience)
    return types.SimpleNamespace(
        config=types.SimpleNamespace(keep_best=keep, early_stopping=stopping),
        workdir=folder,
        checkpoints=types.SimpleNamespace(steps=lambda: list(steps)),
        tracked=lambda text: tracked_score(text, {"answers": main}),
    )


def results(**scores):
    return {"answers": types.SimpleNamespace(scores=scores)}


@pytest.mark.parametrize(
    ("values", "lowest", "best"),
    [
        ({}, False, None),
        ({10: 0.5}, False, 10),
        ({10: 0.5, 20: 0.7, 30: 0.7}, False, 20),
        ({30: 0.7, 10: 0.5, 20: 0.7}, False, 20),
        ({10: 0.5, 20: 0.7, 30: 0.4}, True, 30),
        ({10: NAN, 20: 0.1, 30: NAN}, False, 20),
        ({10: NAN}, True, None),
        ({10: -math.inf, 20: math.inf}, False, 20),
    ],
)
def test_the_best_step(values, lowest, best):
    assert TrackedScore("a/b", lowest).best(values) == best


@pytest.mark.parametrize(
    ("text", "lowest", "want"),
    [
        ("answers/acc", False, ("answers/acc", False)),
        ("answers/acc", True, ("answers/acc", True)),
        ("answers/acc:min", False, ("answers/acc", True)),
        ("answers/acc:max", True, ("answers/acc", False)),
        ("answers/acc/a:b", False, ("answers/acc/a:b", False)),
    ],
)
def test_which_way_is_better(tmp_path, text, lowest, want):
    assert run_of(tmp_path, lowest=lowest).tracked(text) == TrackedScore(*want)


def test_the_best_is_kept_only_from_the_first_step_on(tmp_path):
    judge = Judge(run_of(tmp_path, keep="answers/acc"), 0)
    assert not judge.add(0, results(acc=0.9)) and judge.best is None
    assert judge.add(2, results(acc=0.5))
    assert not judge.add(4, results(acc=0.5))
    assert not judge.add(5, {})  # another evaluation ran
    assert judge.add(6, results(acc=0.6)) and judge.best == 6
    assert judge.told() == "answers/acc 0.6 at step 6" and judge.verdict() == ""
    with pytest.raises(UserError, match=r"keep_best is 'answers/acc', but the .* are loss, n\."):
        judge.add(8, results(loss=1.0, n=2))


def test_patience(tmp_path):
    judge = Judge(run_of(tmp_path, metric="answers/acc", patience=2), 0)
    said = []
    for step, acc in enumerate((0.4, 0.3, 0.5, 0.5, NAN), 1):
        assert not judge.add(step, results(acc=acc)) and judge.best is None
        said.append(judge.verdict())
    assert said == [""] * 4 + ["answers/acc was not better than 0.5 at step 3 in 2 evaluations"]
    judge = Judge(run_of(tmp_path, metric="answers/acc", patience=2), 0)
    for step, acc in ((0, 0.5), (1, 0.4), (2, 0.5)):  # never better than untuned
        judge.add(step, results(acc=acc))
    assert "0.5 at step 0" in judge.verdict()


def test_an_interrupted_run_is_judged_by_what_it_has_logged(tmp_path):
    rows = [{"step": s, "answers/acc": v} for s, v in ((0, 0.9), (2, 0.8), (4, 0.5), (6, 0.6))]
    lines = [*map(json.dumps, rows), '{"step": 6, "best/step": 2, "best/answers/acc": 0.8}', '{"st']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    run = run_of(tmp_path, keep="answers/acc", patience=3, steps=(2, 6))
    judge = Judge(run, 6)
    assert judge.best == 2 and "0.9 at step 0 in 3 evaluations" in judge.verdict()
    assert Judge(run, 4).verdict() == ""
    # A best checkpoint that is gone, as after --resume_from, is not the best.
    assert Judge(run_of(tmp_path, keep="answers/acc", steps=(6,)), 6).best == 6


def test_a_score_must_belong_to_an_evaluation_that_runs_while_training():
    data = {"kind": "perplexity", "data": {"name": "jsonl", "fname": "x"}, "pp": "decode"}
    config = {"evals": {"val": {**data, "every": 5}, "end": data}}
    parse_config({**config, "keep_best": "val/loss:max", "early_stopping": {"patience": 2}})
    parse_config({**config, "early_stopping": {"metric": "val/loss", "patience": 2}})
    for keys, message in (
        ({"keep_best": "val"}, r"expected EVALUATION/SCORE, of the evaluations \['val', 'end'\]"),
        ({"keep_best": "end/loss"}, r"evals\.end\.every is 0"),
        ({"early_stopping": {"metric": "no/loss"}}, r"config\.early_stopping\.metric is 'no/loss'"),
        ({"early_stopping": {"patience": 1}}, "no score is given"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_config({**config, **keys})
