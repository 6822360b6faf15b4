"""Exact match of an answer with a reference."""

from pgjax.errors import DataError
from pgjax.registry import METRICS


def references(meta: dict) -> list[str]:
    """Returns the reference texts of an example: its `answers` if it has any, or `[suffix]`.

    Raises:
      DataError: the example has neither key, or they do not hold text.
    """
    if "answers" in meta or "suffix" in meta:
        key = "answers" if "answers" in meta else "suffix"
        found = meta[key] if key == "answers" else [meta[key]]
        if isinstance(found, str) or not all(isinstance(text, str) for text in found):
            expected = "a list of texts" if key == "answers" else "text"
            raise DataError(f"The example's {key!r} is {meta[key]!r:.100}, expected {expected}.")
        return list(found)
    raise DataError(
        f"A metric needs the key 'answers' or 'suffix' to score against, but the example has "
        f"{sorted(meta)}."
    )


@METRICS.register("exact_match", main="acc")
def exact_match(
    prediction: str, meta: dict, *, lower: bool = False, strip: bool = True
) -> dict[str, float]:
    """Checks whether an answer equals one of its references.

    Args:
      prediction: the decoded answer.
      meta: holds the references: `answers` (a match with any of them counts), or `suffix`.
      lower: whether to ignore case.
      strip: whether to ignore white space at both ends.

    Returns:
      `acc`, 0.0 or 1.0, or an empty dict for an example without references.
    """

    def normal(text: str) -> str:
        text = text.strip() if strip else text
        return text.lower() if lower else text

    answers = references(meta)
    if not answers:
        return {}
    return {"acc": float(normal(prediction) in map(normal, answers))}
