"""Counting: answers that are numbers, in digits or words.

TallyQA (Acharya et al., arXiv:1810.12440) tells simple questions ("How many dogs?") from complex
ones ("How many dogs are eating?"); CountBenchQA (Beyer et al., arXiv:2407.07726) has one kind.
"""

from pgjax.metrics.exact_match import references
from pgjax.registry import METRICS

_WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty"""
_DIGITS = {"none": "0", **{word: str(i) for i, word in enumerate(_WORDS.split())}}


def in_digits(text: str) -> str:
    """Lower case, and a number word up to twenty (or "none") as digits; other text as it is."""
    text = text.lower()
    return _DIGITS.get(text, text)


@METRICS.register("counting", main="acc")
def counting(prediction: str, meta: dict) -> dict[str, float]:
    """Whether the number is right.

    Args:
      prediction: decoded answer.
      meta: `answers` (any of them counts), or `suffix`.

    Returns:
      `acc` 0.0 or 1.0, the same as `acc/count_<reference>` for a reference that is a number, and
      `valid`, whether the answer is a number at all; nothing for an example without references.
    """
    answers = [in_digits(answer) for answer in references(meta)]
    if not answers:
        return {}
    prediction = in_digits(prediction)
    scores = {"acc": float(prediction in answers), "valid": float(prediction.isdecimal())}
    if answers[0].isdecimal():
        scores[f"acc/count_{int(answers[0])}"] = scores["acc"]
    return scores


@METRICS.register("tallyqa", main="acc")
def tallyqa(prediction: str, meta: dict) -> dict[str, float]:
    """As `counting`, with simple and complex questions apart.

    Args:
      prediction: decoded answer.
      meta: `answers` or `suffix`; `issimple` 1 or 0, other values and questions without the key
        are neither.

    Returns:
      What `counting` returns, and the same `acc` as `acc/simple` or `acc/complex`.
    """
    scores = counting(prediction, meta)
    kind = {1: "simple", 0: "complex"}.get(meta.get("issimple"))
    return scores | ({f"acc/{kind}": scores["acc"]} if scores and kind else {})
