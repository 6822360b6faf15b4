"""ANLS (average normalised Levenshtein similarity) of answers read from documents and scenes.

Equation 1 of Biten et al., "Scene Text Visual Question Answering" (arXiv:1905.13648): let NL be the
edit distance between prediction and reference, divided by the length of the longer one. An answer
scores 1 − NL if NL < ½, and 0 otherwise. The reference with the highest score counts.

Details are those of the script of the Robust Reading Competition (rrc.cvc.uab.es), which scores
DocVQA and InfoVQA: distances are between texts whose runs of white space are single spaces, lengths
are those of the texts as they are, in upper case ("ß" counts as two), and an answer with NL = ½,
for which equation 1 gives 0, scores ½. The script ignores case, which is `lower=True` here.
"""

from collections.abc import Hashable, Sequence

from pgjax.metrics.exact_match import references
from pgjax.registry import METRICS


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Returns the Levenshtein distance in insertions, deletions and substitutions of one item.

    Items are the characters of a text, or those of any sequence.

    A column of the table of distances is held in two whole numbers, whose bits say where the
    distance rises and falls from one row to the next (Myers, "A fast bit-vector algorithm for
    approximate string matching", 1999, in the form of Hyyrö, 2003).
    """
    if not a or not b:
        return len(a) + len(b)
    rows: dict[Hashable, int] = {}  # by item, a bit for each place in `a` where it stands
    for i, item in enumerate(a):
        rows[item] = rows.get(item, 0) | 1 << i
    everywhere, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    rises, falls, distance = everywhere, 0, len(a)
    for item in b:
        same = rows.get(item, 0)
        diagonal = ((((same & rises) + rises) ^ rises) | same | falls) & everywhere
        right_rises = falls | (everywhere ^ (diagonal | rises))
        right_falls = diagonal & rises
        distance += bool(right_rises & last) - bool(right_falls & last)
        right_rises = right_rises << 1 & everywhere | 1
        rises = right_falls << 1 & everywhere | (everywhere ^ (diagonal | right_rises))
        falls = right_rises & diagonal
    return distance


def similarity(prediction: str, reference: str, *, lower: bool = False) -> float:
    """Returns 1 − NL if that is at least ½, and 0 otherwise (see the module)."""
    longer = max(len(prediction.upper()), len(reference.upper()), 1)
    a, b = (" ".join((t.lower() if lower else t).split()) for t in (prediction, reference))
    if abs(len(a) - len(b)) > longer / 2:  # at least so many characters were inserted
        return 0.0
    score = 1 - edit_distance(a, b) / longer
    return score if score >= 0.5 else 0.0


@METRICS.register("anls", main="anls")
def anls(prediction: str, meta: dict, *, lower: bool = False) -> dict[str, float]:
    """Scores an answer that may contain small reading errors.

    Args:
      prediction: the decoded answer.
      meta: holds the references: `answers` (the best match counts), or `suffix`.
      lower: whether to ignore case.

    Returns:
      `anls` in 0..1, or an empty dict for an example without references.
    """
    answers = references(meta)
    if not answers:
        return {}
    return {"anls": max(similarity(prediction, answer, lower=lower) for answer in answers)}
