"""Exact match: does the answer equal a reference?"""

from pgjax.errors import DataError
from pgjax.registry import METRICS


def references(meta: dict) -> list[str]:
    """The reference texts of an example: `answers` where it has the key, else `[suffix]`.

    Raises:
      DataError: it has neither.
    """
    if "answers" in meta:
        return list(meta["answers"])
    if "suffix" in meta:
        return [meta["suffix"]]
    raise DataError(f"Expected 'answers' or 'suffix' to score against, got {sorted(meta)}.")


@METRICS.register("exact_match", main="acc")
def exact_match(
    prediction: str, meta: dict, *, lower: bool = False, strip: bool = True
) -> dict[str, float]:
    """Whether the prediction equals one of the references.

    Args:
      prediction: decoded answer.
      meta: `answers` (any of them counts), or `suffix`.
      lower: compare in lower case.
      strip: ignore white space at both ends.

    Returns:
      `acc` 0.0 or 1.0; nothing for an example without references.
    """

    def normal(text):
        text = text.strip() if strip else text
        return text.lower() if lower else text

    answers = references(meta)
    if not answers:
        return {}
    return {"acc": float(normal(prediction) in map(normal, answers))}
