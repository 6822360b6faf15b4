"""Runs evaluations, and writes their scores, predictions and submissions to a folder."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from pgjax.config import EvalConfig
from pgjax.console import say
from pgjax.errors import UserError
from pgjax.evaluation.evaluators import Result, make_evaluator
from pgjax.evaluation.fingerprint import identity
from pgjax.evaluation.store import Store, as_line, write_whole
from pgjax.evaluation.submissions import write_submission
from pgjax.loading.model_context import Flat, ModelContext

SCORES_FILE = "scores.json"


def evaluate(
    context: ModelContext,
    params: Flat,
    evals: Mapping[str, EvalConfig | Mapping[str, Any]],
    only: Sequence[str] | None,
    out: pathlib.Path,
    *,
    about: Mapping[str, Any] | None = None,
    restart: bool = False,
) -> dict[str, dict[str, float]]:
    """Runs the named evaluations, and continues from the predictions that `out` holds of them.

    Args:
      context: the model, its mesh and its tokenizer.
      params: the parameters by name.
      evals: the evaluations by name, as in `config.evals`.
      only: the names of the evaluations to run; None runs all.
      out: the folder for predictions, submissions and `scores.json`, which all processes see.
      about: further facts that are stored with the predictions, such as the checkpoint's name.
      restart: whether to drop the predictions that `out` holds.

    Returns:
      The scores of each evaluation. `stored_evaluation.read_evaluations` reads them from `out`.

    Raises:
      UserError: a name is unknown, an evaluation does not fit the model or its data, or the folder
        holds predictions of another evaluation.
    """
    if unknown := sorted(set(only or ()) - evals.keys()):
        raise UserError(
            f"--evals has the unknown names {unknown}; this config has {sorted(evals)}."
        )
    chosen = {name: spec for name, spec in evals.items() if not only or name in only}
    if not chosen:
        raise UserError("This config has no evaluation, expected at least one in config.evals.")
    evaluators = {name: make_evaluator(name, spec, context) for name, spec in chosen.items()}
    scores = {}
    for name, evaluator in evaluators.items():
        facts = {
            **(about or {}),
            "res": context.config.model.res,
            "published": evaluator.spec.published,
            "main_score": evaluator.main,
        }
        store = Store(out, name, identity(evaluator, params), facts, restart)
        result = evaluator.run(params, store)
        scores[name] = result.scores
        if jax.process_index() == 0:
            if form := evaluator.spec.submission:
                path = write_submission(form, result.records, out / name)
                say(f"The file to submit for {name} is {path}.")
            _add_scores(out / SCORES_FILE, name, result.scores)
    return scores


def _add_scores(path: pathlib.Path, name: str, scores: Mapping[str, float]) -> None:
    """Adds an evaluation's scores to the file, which may hold those of other evaluations."""
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    write_whole(path, [json.dumps({**known, name: scores}, indent=1) + "\n"])


def write_predictions(path: pathlib.Path, result: Result) -> None:
    """Writes one line per record, from process 0; the file appears complete or not at all."""
    if jax.process_index() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, map(as_line, result.records))
