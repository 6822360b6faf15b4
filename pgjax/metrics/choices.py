"""Scores of questions with a closed set of answers: multiple choice, ScienceQA, POPE and MMVP."""

import collections
import re
from collections.abc import Sequence

from pgjax.errors import DataError
from pgjax.metrics.exact_match import exact_match, references
from pgjax.registry import METRICS

_LETTER = re.compile(r"the answer is ([a-z])\.", re.IGNORECASE | re.ASCII)


@METRICS.register("multiple_choice", main="acc")
def multiple_choice(
    prediction: str, meta: dict, *, lower: bool = False, key: str = "choices"
) -> dict[str, float]:
    """Checks whether an answer is the right option (AI2D, A-OKVQA multiple choice).

    Args:
      prediction: the decoded answer.
      meta: holds the text of the right option as `answers` or `suffix`, and, if known, the texts of
        all options under `key`.
      lower: whether to ignore case.
      key: the key of the options in `meta`.

    Returns:
      `acc`, 0.0 or 1.0, and, if the options are known, `valid`, which is 1.0 if the answer is one
      of them; or an empty dict for an example without references.
    """
    scores = exact_match(prediction, meta, lower=lower)
    if scores and key in meta:
        scores["valid"] = exact_match(prediction, {"answers": meta[key]}, lower=lower)["acc"]
    return scores


def answer_letter(text: str) -> str | None:
    """Returns the letter X in lower case if a text begins with "The answer is X.", or else None."""
    match = _LETTER.match(text)
    return match[1].lower() if match else None


@METRICS.register("science_qa", main="acc")
def science_qa(prediction: str, meta: dict) -> dict[str, float]:
    """Checks the letter in an answer of the form "The answer is X.".

    An answer without a letter is wrong, whatever the reference is. The benchmark's own code, in
    contrast, takes two texts without a letter for equal.

    Args:
      prediction: the decoded answer.
      meta: holds the reference in the same form, as `suffix` or `answers`.

    Returns:
      `acc`, 0.0 or 1.0, and `parsed`, which is 1.0 if the answer has a letter; or an empty dict for
      an example without references.
    """
    answers = references(meta)
    if not answers:
        return {}
    letter = answer_letter(prediction)
    right = letter is not None and letter in map(answer_letter, answers)
    return {"acc": float(right), "parsed": float(letter is not None)}


@METRICS.register("pope", main="acc", corpus=True)
def pope(records: Sequence[dict]) -> dict[str, float]:
    """Scores yes-or-no questions about objects that may be absent (Li et al., arXiv:2305.10355).

    "Yes" is the positive class. Case is ignored. An answer that is not exactly "yes" or "no" is
    wrong and counts as neither.

    Args:
      records: each holds `prediction`, and the reference "yes" or "no" in `suffix` or `answers`.
        Records without references are skipped; each of the others gets its own `acc` and `valid`
        in its `scores`.

    Returns:
      `acc`, `precision`, `recall`, `f1`, `yes_rate` (the share of answers that are "yes"), and
      `valid` (the share that are "yes" or "no"), each in 0..1.

    Raises:
      DataError: a reference is neither "yes" nor "no".
    """
    pairs: list[tuple[str, str]] = []
    for record in records:
        for reference in references(record)[:1]:
            expected, got = reference.strip().lower(), record["prediction"].lower()
            if expected not in ("yes", "no"):
                raise DataError(
                    f"The metric pope needs the reference 'yes' or 'no', got {reference!r} in the "
                    f"record {record}."
                )
            pairs.append((got, expected))
            record.setdefault("scores", {}).update(
                acc=float(got == expected), valid=float(got in ("yes", "no"))
            )
    said = sum(got == "yes" for got, _ in pairs)
    there = sum(expected == "yes" for _, expected in pairs)
    both = pairs.count(("yes", "yes"))
    return {
        "acc": _share(sum(got == expected for got, expected in pairs), len(pairs)),
        "precision": _share(both, said),
        "recall": _share(both, there),
        "f1": _share(2 * both, said + there),
        "yes_rate": _share(said, len(pairs)),
        "valid": _share(sum(got in ("yes", "no") for got, _ in pairs), len(pairs)),
    }


@METRICS.register("mmvp", main="acc_single", corpus=True)
def mmvp(records: Sequence[dict], *, key: str = "pair", lower: bool = True) -> dict[str, float]:
    """Computes the accuracy over pairs of questions (Tong et al., arXiv:2401.06209).

    A pair is right if both of its questions are answered right.

    Args:
      records: each holds `prediction`, `suffix` or `answers`, and the name of its pair. Records
        without references are skipped; each of the others gets its own accuracy as `acc_single` in
        its `scores`.
      key: the key under which a record names its pair.
      lower: whether to ignore case.

    Returns:
      `acc`, the share of pairs that are right; `acc_single`, the share of single questions that are
      right; and `pairs`, the number of pairs. A question without its partner is in no pair.

    Raises:
      DataError: a record does not name its pair, or a pair has more than two questions.
    """
    pairs: dict[str, list[float]] = collections.defaultdict(list)
    for record in records:
        if key not in record:
            raise DataError(
                f"The metric mmvp needs the key {key!r}, but the example has {list(record)}."
            )
        if scores := exact_match(record["prediction"], record, lower=lower):
            record.setdefault("scores", {})["acc_single"] = scores["acc"]
            pairs[record[key]].append(scores["acc"])
    for name, scores in pairs.items():
        if len(scores) > 2:
            raise DataError(
                f"The metric mmvp needs pairs of 2 questions, but the pair {name!r} has "
                f"{len(scores)}."
            )
    whole = [min(scores) for scores in pairs.values() if len(scores) == 2]
    single = [score for scores in pairs.values() for score in scores]
    return {
        "acc": _share(sum(whole), len(whole)),
        "acc_single": _share(sum(single), len(single)),
        "pairs": len(whole),
    }


def _share(part: float, whole: int) -> float:
    return part / whole if whole else 0.0
