"""Runs evaluations and stores what they found."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from pgjax.errors import UserError
from pgjax.evaluation.evaluators import Result, make_evaluator
from pgjax.inference.session import Flat, Session


def evaluate(
    session: Session,
    params: Flat,
    evals: Mapping[str, Mapping[str, Any]],
    only: Sequence[str] | None,
    out: pathlib.Path,
) -> dict[str, dict[str, float]]:
    """Runs the named evaluations (None: all) and writes `NAME.jsonl` and `scores.json`.

    Raises:
      UserError: an unknown name, or an evaluation that does not build.
    """
    if unknown := sorted(set(only or ()) - evals.keys()):
        raise UserError(f"--evals {unknown} is unknown; this config has {sorted(evals)}.")
    chosen = {name: spec for name, spec in evals.items() if not only or name in only}
    if not chosen:
        raise UserError("This config has no evaluation; add one to config.evals.")
    evaluators = {name: make_evaluator(name, spec, session) for name, spec in chosen.items()}
    scores = {}
    for name, evaluator in evaluators.items():
        result = evaluator.run(params)
        scores[name] = result.scores
        store(out / f"{name}.jsonl", result)
    if jax.process_index() == 0:
        (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    return scores


def store(path: pathlib.Path, result: Result) -> None:
    """Writes one line per example, from process 0; the file appears whole or not at all."""
    if jax.process_index() != 0:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    lines = (json.dumps(r, ensure_ascii=False, default=_plain) for r in result.records)
    part.write_text("".join(f"{line}\n" for line in lines))
    part.replace(path)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)
