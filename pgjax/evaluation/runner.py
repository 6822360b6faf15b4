"""Runs evaluations and stores what they found."""

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
    """Runs the named evaluations, going on from what `out` holds of them.

    Args:
      context: of the model.
      params: its parameters.
      evals: by name, as in `config.evals`.
      only: names to run; None for all.
      out: folder for predictions, submissions and `scores.json`; seen by all processes.
      about: what else is to be stored with them, such as the checkpoint's name.
      restart: forgets what `out` holds.

    Returns:
      `{name: scores}`; with the predictions they are in `out` as well, see `table.folder_rows`.

    Raises:
      UserError: an unknown name, an evaluation that does not build, or a folder that holds
        predictions of something else.
    """
    if unknown := sorted(set(only or ()) - evals.keys()):
        raise UserError(f"--evals {unknown} is unknown; this config has {sorted(evals)}.")
    chosen = {name: spec for name, spec in evals.items() if not only or name in only}
    if not chosen:
        raise UserError("This config has no evaluation; add one to config.evals.")
    evaluators = {name: make_evaluator(name, spec, context) for name, spec in chosen.items()}
    scores = {}
    for name, evaluator in evaluators.items():
        told = {
            **(about or {}),
            "res": context.config.model.res,
            "published": evaluator.spec.published,
            "main_score": evaluator.main,
        }
        result = evaluator.run(params, Store(out, name, identity(evaluator, params), told, restart))
        scores[name] = result.scores
        if jax.process_index() == 0:
            if form := evaluator.spec.submission:
                say(f"{name}, to submit: {write_submission(form, result.records, out / name)}")
            _add_scores(out / SCORES_FILE, name, result.scores)
    return scores


def _add_scores(path: pathlib.Path, name: str, scores: Mapping[str, float]) -> None:
    """Beside those of evaluations that ran here before."""
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = {}
    write_whole(path, [json.dumps({**known, name: scores}, indent=1) + "\n"])


def write_predictions(path: pathlib.Path, result: Result) -> None:
    """Writes one line per example, from process 0; the file appears whole or not at all."""
    if jax.process_index() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, map(as_line, result.records))
