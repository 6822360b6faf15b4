"""Error rates of music in **kern notation: of characters, of symbols and of lines.

As in the code of the Sheet Music Transformer (Ríos-Vila et al., arXiv:2402.07596): a rate is the
sum of edit distances over all scores, divided by the sum of their lengths. Symbols are what white
space separates, and tabs and line breaks themselves.
"""

import re
from collections.abc import Callable, Hashable, Sequence

from pgjax.errors import DataError
from pgjax.metrics.anls import edit_distance
from pgjax.metrics.exact_match import references
from pgjax.registry import METRICS


def symbols(text: str) -> list[str]:
    """Splits **kern into symbols, of which two spaces in a row have an empty one between them."""
    return re.sub(r"([\n\t])", r" \1 ", text).split(" ")


_PARTS: dict[str, Callable[[str], Sequence[Hashable]]] = {
    "cer": lambda text: text,
    "ser": symbols,
    "ler": lambda text: text.split("\n"),
}


@METRICS.register("kern", main="ser", lower_is_better=True, corpus=True)
def kern(records: Sequence[dict]) -> dict[str, float]:
    """Computes the error rates of scores that were read.

    Args:
      records: each holds `prediction`, and the score in `answers` (the first one) or `suffix`.
        Records without it are skipped; each of the others gets its own rates in its `scores`.

    Returns:
      `cer`, `ser` and `ler`, of characters, symbols and lines; 0 is best, and 1 can be exceeded.

    Raises:
      DataError: no record has a score.
    """
    errors, lengths = dict.fromkeys(_PARTS, 0), dict.fromkeys(_PARTS, 0)
    for record in records:
        if not (truths := references(record)):
            continue
        for name, parts in _PARTS.items():
            truth = parts(truths[0])
            distance = edit_distance(parts(record["prediction"]), truth)
            record.setdefault("scores", {})[name] = distance / max(len(truth), 1)
            errors[name] += distance
            lengths[name] += len(truth)
    if not lengths["cer"]:
        raise DataError(
            f"The metric kern needs references, but none of {len(records)} records has any."
        )
    return {name: errors[name] / lengths[name] for name in _PARTS}
