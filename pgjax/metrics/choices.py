"""Questions with a closed set of answers: multiple choice, ScienceQA, POPE, MMVP."""

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
    """Whether the right option was named (AI2D, A-OKVQA multiple choice).

    Args:
      prediction: decoded answer.
      meta: `answers` or `suffix`, the text of the right option; and the options offered, if known.
      lower: compare in lower case.
      key: where `meta` has the options.

    Returns:
      `acc` 0.0 or 1.0, and where the options are known `valid`, whether the answer is one of them;
      nothing for an example without references.
    """
    scores = exact_match(prediction, meta, lower=lower)
    if scores and key in meta:
        scores["valid"] = exact_match(prediction, {"answers": meta[key]}, lower=lower)["acc"]
    return scores


def answer_letter(text: str) -> str | None:
    """The letter, in lower case, of a text that begins "The answer is X."; None for other text."""
    match = _LETTER.match(text)
    return match[1].lower() if match else None


@METRICS.register("science_qa", main="acc")
def science_qa(prediction: str, meta: dict) -> dict[str, float]:
    """Whether the letter in "The answer is X." is right.

    An answer without one is wrong, whatever the reference is; the reference implementation of this
    benchmark calls two unreadable texts equal.

    Args:
      prediction: decoded answer.
      meta: `suffix` or `answers`, in the same words.

    Returns:
      `acc` 0.0 or 1.0, and `parsed`, whether the answer has a letter; nothing for an example
      without references.
    """
    answers = references(meta)
    if not answers:
        return {}
    letter = answer_letter(prediction)
    right = letter is not None and letter in map(answer_letter, answers)
    return {"acc": float(right), "parsed": float(letter is not None)}


@METRICS.register("pope", main="acc", corpus=True)
def pope(records: Sequence[dict]) -> dict[str, float]:
    """Yes or no questions about objects that may not be there (Li et al., arXiv:2305.10355).

    "Yes" is the positive class. An answer that is neither yes nor no, in any case but to the
    letter, is wrong and counts as neither.

    Args:
      records: `prediction`, and the reference "yes" or "no" in `suffix` or `answers`; records
        without references are not counted.

    Returns:
      `acc`, `precision`, `recall`, `f1`, `yes_rate` (answers that are yes), and `valid` (answers
      that are yes or no), each in 0..1. Each record's own `acc` and `valid` go to its `scores`.

    Raises:
      DataError: a reference that is neither yes nor no.
    """
    pairs = []
    for record in records:
        for reference in references(record)[:1]:
            expected, got = reference.strip().lower(), record["prediction"].lower()
            if expected not in ("yes", "no"):
                raise DataError(f"metric pope expects 'yes' or 'no' to score against, {record}")
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
    """Paired accuracy: both questions of a pair of pictures right (Tong et al., arXiv:2401.06209).

    Args:
      records: `prediction`, `suffix` or `answers`, and which pair the question belongs to.
      key: where a record names its pair.
      lower: compare in lower case.

    Returns:
      `acc`, the share of pairs with both answers right; `acc_single`, that of single questions; and
      `pairs`, how many there were. A question whose partner is missing counts as no pair. Each
      record's own `acc_single` goes to its `scores`.

    Raises:
      DataError: a record without its pair, or a pair of more than two.
    """
    pairs = collections.defaultdict(list)
    for record in records:
        if key not in record:
            raise DataError(f"metric mmvp expects the key {key!r}, the example has {list(record)}")
        if scores := exact_match(record["prediction"], record, lower=lower):
            record.setdefault("scores", {})["acc_single"] = scores["acc"]
            pairs[record[key]].append(scores["acc"])
    for name, scores in pairs.items():
        if len(scores) > 2:
            raise DataError(f"metric mmvp: pair {name!r} has {len(scores)} questions, expected 2")
    whole = [min(scores) for scores in pairs.values() if len(scores) == 2]
    single = [score for scores in pairs.values() for score in scores]
    return {
        "acc": _share(sum(whole), len(whole)),
        "acc_single": _share(sum(single), len(single)),
        "pairs": len(whole),
    }


def _share(part: float, whole: int) -> float:
    return part / whole if whole else 0.0
