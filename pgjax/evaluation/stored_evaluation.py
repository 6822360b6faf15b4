"""Reads finished evaluations from the folder that `pgjax evaluate` wrote."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pgjax.errors import UserError
from pgjax.evaluation.main_score import MainScore, main_score
from pgjax.evaluation.runner import SCORES_FILE
from pgjax.evaluation.store import Records
from pgjax.schema import field, parse_file, read_json, wrong


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


def _are_numbers(value: Any) -> bool:
    """Whether a value maps names to numbers, NaN among them."""
    return isinstance(value, dict) and all(isinstance(x, int | float) for x in value.values())


def _numbers(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    if _are_numbers(value):
        return value
    raise wrong(key, value, "numbers by name")


@dataclasses.dataclass(frozen=True)
class _Identity:
    """What NAME.json holds of what was evaluated, as far as it is read here."""

    kind: str
    metric: Mapping[str, Any]
    data: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class _About:
    """What NAME.json holds of further facts, as far as it is read here."""

    published: str
    res: int
    main_score: tuple[str, bool] | None = None
    checkpoint: str = ""
    benchmark: str = ""


@dataclasses.dataclass(frozen=True)
class _Record:
    """What a line of NAME.jsonl holds, as far as all kinds of evaluations have it."""

    index: int
    scores: Mapping[str, Any] = field(check=_numbers)
    prefix: str = ""
    suffix: str | None = None
    prediction: str | None = None
    answers: Sequence[Any] = ()


def read_evaluations(folder: pathlib.Path) -> dict[str, StoredEvaluation]:
    """Reads the evaluations in a folder by name.

    Raises:
      UserError: the folder holds no finished evaluation, or its files are damaged.
    """
    path = folder / SCORES_FILE
    stored = read_json(path, f"{folder} holds no finished evaluation, it has no {SCORES_FILE}")
    for name, scores in stored.items():
        if not _are_numbers(scores):
            raise UserError(f"{path}: {name} is {scores!r:.80}, expected numbers by name.")
    return {name: _read(folder, name, scores) for name, scores in stored.items()}


def _read(folder: pathlib.Path, name: str, scores: dict[str, float]) -> StoredEvaluation:
    path = folder / f"{name}.json"
    content = read_json(path)
    about, identity = content.get("about", {}), content.get("identity", {})
    main = parse_file(_About, about, path, "about").main_score
    known = parse_file(_Identity, identity, path, "identity")
    if main is None:  # pgjax before 0.2 did not store it
        main = main_score(known.kind, known.metric)
    records = _records(folder / f"{name}.jsonl")
    return StoredEvaluation(scores, identity, about, records, MainScore(*main))


def _records(path: pathlib.Path) -> Records:
    number = 0
    try:
        records = Records(path)
        for number, record in enumerate(records, 1):
            parse_file(_Record, record, f"{path}:{number}")
    except json.JSONDecodeError as e:
        raise UserError(f"{path}:{number + 1} is not JSON ({e.msg}).") from None
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path} cannot be read ({' '.join(str(e).split())}).") from None
    return records
