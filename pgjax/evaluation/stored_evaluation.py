"""Reads finished evaluations from the folder that `pgjax evaluate` wrote."""

import dataclasses
import json
import pathlib
from typing import Any

from pgjax.errors import UserError
from pgjax.evaluation.main_score import MainScore, main_score
from pgjax.evaluation.runner import SCORES_FILE
from pgjax.evaluation.store import Records


@dataclasses.dataclass(frozen=True)
class StoredEvaluation:
    """A finished evaluation.

    Attributes:
      scores: the scores by name.
      identity: what the predictions depend on, see `pgjax.evaluation.fingerprint`.
      about: further facts, such as the checkpoint, the benchmark and the image size.
      records: the records of all examples, which are read from the file as they are used.
      main_score: the score by which examples are ranked.
    """

    scores: dict[str, float]
    identity: dict[str, Any]
    about: dict[str, Any]
    records: Records
    main_score: MainScore


def read_evaluations(folder: pathlib.Path) -> dict[str, StoredEvaluation]:
    """Reads the evaluations in a folder by name.

    Raises:
      UserError: the folder holds no finished evaluation.
    """
    try:
        scores = json.loads((folder / SCORES_FILE).read_text())
        return {name: _read(folder, name, its_scores) for name, its_scores in scores.items()}
    except (OSError, ValueError) as e:
        raise UserError(f"{folder} holds no finished evaluation ({e}).") from None


def _read(folder: pathlib.Path, name: str, scores: dict[str, float]) -> StoredEvaluation:
    content = json.loads((folder / f"{name}.json").read_text())
    identity, about = content["identity"], content["about"]
    if stored := about.get("main_score"):
        main = MainScore(str(stored[0]), bool(stored[1]))
    else:  # pgjax before 0.2 did not store the main score
        main = main_score(identity["kind"], identity["metric"])
    return StoredEvaluation(scores, identity, about, Records(folder / f"{name}.jsonl"), main)
