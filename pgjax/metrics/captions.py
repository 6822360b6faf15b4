"""Caption scores over a corpus: CIDEr-D, BLEU, ROUGE-L, and what pycocoevalcap computes."""

import importlib
import importlib.util
import shutil
from collections.abc import Callable, Collection, Sequence

from pgjax.errors import DataError, UserError
from pgjax.metrics.exact_match import references
from pgjax.metrics.multilingual import multilingual_tokenize
from pgjax.metrics.ngrams import bleu as corpus_bleu
from pgjax.metrics.ngrams import cider_d, rouge_l
from pgjax.metrics.ptb import ptb_tokenize
from pgjax.registry import METRICS


def split_tokenize(captions: Sequence[str]) -> list[str]:
    """Lowercases captions and splits them at white space alone, which keeps punctuation."""
    return [" ".join(caption.lower().split()) for caption in captions]


# Takes captions and returns, for each, its words joined by single spaces.
CaptionTokenizer = Callable[[Sequence[str]], list[str]]
TOKENIZERS: dict[str, CaptionTokenizer] = {
    "ptb": ptb_tokenize,
    "multilingual": multilingual_tokenize,
    "split": split_tokenize,
}


@METRICS.register("cider", main="cider", corpus=True)
def cider(
    records: Sequence[dict],
    *,
    tokenizer: str = "ptb",
    bleu: bool = False,
    rouge: bool = False,
    key: str = "",
    apart: str = "en",
) -> dict[str, float]:
    """Computes CIDEr-D (Vedantam et al., arXiv:1411.5726) as coco-caption does.

    Published scores are 100 times these values.

    Args:
      records: one per image; each holds `prediction`, and the human captions in `answers` (or
        `suffix`). Records without references are skipped; each of the others gets its own `cider`
        in its `scores`, and the mean of these is the score of the corpus.
      tokenizer: "ptb" is coco-caption's English tokenizer, which published code uses for all
        languages; "multilingual" fits all languages; "split" splits at white space.
      bleu: whether to compute BLEU as well.
      rouge: whether to compute ROUGE-L as well.
      key: the key under which a record names its language or set. Each value is a corpus of its
        own, and the result is their mean: COCO-35L and XM3600 use key="language".
      apart: a value of `key` that the published means over 34 and 35 languages leave out.

    Returns:
      `cider` in 0..10, and if asked for `bleu1` to `bleu4` and `rouge_l` in 0..1. With `key` there
      is also `cider/<value>` for each value, and, if `apart` is one of them, `cider/avg<N>`, the
      mean over the N others.

    Raises:
      UserError: the tokenizer is unknown.
      DataError: a record lacks its `key`, or no record has references.
    """
    if tokenizer not in TOKENIZERS:
        raise UserError(
            f"The metric cider has no tokenizer {tokenizer!r}, expected one of {[*TOKENIZERS]}."
        )
    corpora = _corpora(records, key, "cider")
    scores = {
        value: _score(corpus, TOKENIZERS[tokenizer], bleu, rouge) for value, corpus in corpora
    }
    result = _means(scores.values())
    if key:
        result |= {f"{name}/{value}": each[name] for value, each in scores.items() for name in each}
        if others := [each for value, each in scores.items() if value != apart and apart in scores]:
            result |= {f"{name}/avg{len(others)}": v for name, v in _means(others).items()}
    return result


def _means(scores: Collection[dict[str, float]]) -> dict[str, float]:
    """Averages each score over the corpora."""
    names = next(iter(scores))
    return {name: sum(each[name] for each in scores) / len(scores) for name in names}


def _corpora(records: Sequence[dict], key: str, metric: str) -> list[tuple[str, list[dict]]]:
    """Groups the records that have references by `key`; without a key they form one corpus."""
    corpora: dict[str, list[dict]] = {}
    for record in records:
        if key and key not in record:
            raise DataError(
                f"The metric {metric} needs the key {key!r}, but the example has {list(record)}."
            )
        if references(record):
            corpora.setdefault(str(record[key]) if key else "", []).append(record)
    if not corpora:
        raise DataError(
            f"The metric {metric} needs references, but none of {len(records)} records has any."
        )
    return list(corpora.items())


def _score(
    records: list[dict], tokenize: CaptionTokenizer, bleu: bool, rouge: bool
) -> dict[str, float]:
    """Scores one corpus, and adds its `cider` to the `scores` of each record."""
    predictions, texts = tokenized(records, tokenize)
    candidates = [text.split() for text in predictions]
    truths = [[text.split() for text in each] for each in texts]
    values = cider_d(candidates, truths)
    for record, value in zip(records, values, strict=True):
        record.setdefault("scores", {})["cider"] = value
    scores = {"cider": sum(values) / len(values)}
    if bleu:
        scores |= {f"bleu{n}": v for n, v in enumerate(corpus_bleu(candidates, truths), 1)}
    if rouge:
        scores["rouge_l"] = rouge_l(candidates, truths)
    return scores


def tokenized(
    records: Sequence[dict], tokenize: CaptionTokenizer
) -> tuple[list[str], list[list[str]]]:
    """Returns the predictions of N records, and the references of each of them, tokenized."""
    groups = [references(record) for record in records]
    flat = iter(tokenize([text for group in groups for text in group]))
    return (
        tokenize([record["prediction"] for record in records]),
        [[next(flat) for _ in group] for group in groups],
    )


# Scores that pycocoevalcap computes, by its module and class.
_COCO = {
    "meteor": ("pycocoevalcap.meteor.meteor", "Meteor"),
    "spice": ("pycocoevalcap.spice.spice", "Spice"),
}


@METRICS.register("coco_caption", main="meteor", corpus=True)
def coco_caption(
    records: Sequence[dict], *, metrics: Sequence[str] = ("meteor", "rouge_l")
) -> dict[str, float]:
    """Computes METEOR and SPICE of captions by pycocoevalcap, and ROUGE-L.

    Args:
      records: one per image; each holds `prediction`, and the human captions in `answers` (or
        `suffix`). Records without references are skipped.
      metrics: any of "meteor" (needs Java), "rouge_l", and "spice" (needs Java, and models that it
        downloads on first use).

    Returns:
      Each of the metrics, in 0..1.

    Raises:
      UserError: a metric is unknown, or pycocoevalcap or Java is not installed.
      DataError: no record has references.
    """
    if unknown := [name for name in metrics if name not in (*_COCO, "rouge_l")]:
        raise UserError(
            f"The metric coco_caption cannot compute {unknown}, expected some of "
            f"{[*_COCO, 'rouge_l']}."
        )
    external = [name for name in metrics if name in _COCO]
    if external and importlib.util.find_spec("pycocoevalcap") is None:
        raise UserError(
            "The metric coco_caption needs pycocoevalcap: run pip install pycocoevalcap. CIDEr, "
            "BLEU and ROUGE-L (metric cider) need neither it nor Java."
        )
    if external and shutil.which("java") is None:
        raise UserError(
            "The metrics meteor and spice need Java, but there is no program 'java' on the path."
        )
    [(_, labelled)] = _corpora(records, "", "coco_caption")
    candidates, truths = tokenized(labelled, ptb_tokenize)
    res = {i: [text] for i, text in enumerate(candidates)}
    gts = dict(enumerate(truths))
    scores = {}
    if "rouge_l" in metrics:
        words = [text.split() for text in candidates]
        scores["rouge_l"] = rouge_l(words, [[t.split() for t in refs] for refs in truths])
    for name in external:
        module, scorer = _COCO[name]
        scores[name] = float(
            getattr(importlib.import_module(module), scorer)().compute_score(gts, res)[0]
        )
    return scores
