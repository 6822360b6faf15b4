"""Scores of descriptions of several sentences, such as DOCCI's.

The PaliGemma 2 paper has people judge each sentence (NES, the share of sentences that the image
does not bear out), which nothing here can replace. CIDEr and BLEU compare words with the one
description that there is; lengths are those of the paper's table.
"""

import re
from collections.abc import Sequence

from pgjax.metrics.captions import cider
from pgjax.registry import METRICS

_END = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)")


@METRICS.register("long_captions", main="cider", corpus=True)
def long_captions(records: Sequence[dict]) -> dict[str, float]:
    """Computes CIDEr and BLEU as the metric cider does, and the mean lengths of the answers.

    Args:
      records: one per image; each holds `prediction`, and descriptions in `answers` (or `suffix`).

    Returns:
      `cider` in 0..10, `bleu1` to `bleu4` in 0..1, and `characters` and `sentences` of an answer.
      Words after the last full stop, where an answer was cut short, are a sentence too.

    Raises:
      DataError: no record has references.
    """
    scores = cider(records, bleu=True)
    texts = [record["prediction"].strip() for record in records]
    sentences = sum(map(_sentences, texts))
    characters = sum(map(len, texts))
    n = len(texts)
    return {**scores, "characters": characters / n, "sentences": sentences / n}


def _sentences(text: str) -> int:
    return sum(bool(part.strip()) for part in _END.split(text))
