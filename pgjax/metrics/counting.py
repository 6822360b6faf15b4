"""Scores of counting questions, whose answers are numbers in digits or words.

TallyQA (Acharya et al., arXiv:1810.12440) distinguishes simple questions ("How many dogs?") from
complex ones ("How many dogs are eating?"). CountBenchQA (Beyer et al., arXiv:2407.07726) has only
one kind.
"""

from pgjax.metrics.exact_match import references
from pgjax.registry import METRICS

MOST_DIGITS = 9  # of a reference that gets a score of its own
_WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty"""
_DIGITS = {"none": "0", **{word: str(i) for i, word in enumerate(_WORDS.split())}}


def in_digits(text: str) -> str:
    """Returns a number word up to "twenty" (or "none") as digits, and other text in lower case."""
    text = text.lower()
    return _DIGITS.get(text, text)


@METRICS.register("counting", main="acc")
def counting(prediction: str, meta: dict) -> dict[str, float]:
    """Checks whether an answer is the right number.

    Args:
      prediction: the decoded answer.
      meta: holds the references: `answers` (a match with any of them counts), or `suffix`.

    Returns:
      `acc`, 0.0 or 1.0; the same value as `acc/count_<reference>` if the reference is a number of
      at most 9 digits; and `valid`, which is 1.0 if the answer is a number. The dict is empty for
      an example without references.
    """
    answers = [in_digits(answer) for answer in references(meta)]
    if not answers:
        return {}
    prediction = in_digits(prediction)
    scores = {"acc": float(prediction in answers), "valid": float(prediction.isdecimal())}
    if answers[0].isdecimal() and len(answers[0]) <= MOST_DIGITS:
        scores[f"acc/count_{int(answers[0])}"] = scores["acc"]
    return scores


@METRICS.register("tallyqa", main="acc")
def tallyqa(prediction: str, meta: dict) -> dict[str, float]:
    """Scores as `counting` does, and separates simple from complex questions.

    Args:
      prediction: the decoded answer.
      meta: holds `answers` or `suffix`, and `issimple`, which is 1 for a simple and 0 for a complex
        question; a question without the key, or with another value, is neither.

    Returns:
      The scores of `counting`, and `acc` once more as `acc/simple` or `acc/complex`.
    """
    scores = counting(prediction, meta)
    kind = {1: "simple", 0: "complex"}.get(meta.get("issimple", -1))
    return scores | ({f"acc/{kind}": scores["acc"]} if scores and kind else {})
