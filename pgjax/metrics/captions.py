"""Scores of captions over a corpus: CIDEr-D and BLEU; others through pycocoevalcap."""

import importlib
import importlib.util
import shutil
from collections.abc import Callable, Collection, Sequence

from pgjax.errors import DataError, UserError
from pgjax.metrics.exact_match import references
from pgjax.metrics.multilingual import multilingual_tokenize
from pgjax.metrics.ngrams import bleu as corpus_bleu
from pgjax.metrics.ngrams import cider_d
from pgjax.metrics.ptb import ptb_tokenize
from pgjax.registry import METRICS


def split_tokenize(captions: Sequence[str]) -> list[str]:
    """Lower case, words by white space alone, punctuation included."""
    return [" ".join(caption.lower().split()) for caption in captions]


# captions -> as many strings of words joined by spaces
TOKENIZERS: dict[str, Callable[[Sequence[str]], list[str]]] = {
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
    key: str = "",
    apart: str = "en",
) -> dict[str, float]:
    """CIDEr-D of captions (Vedantam et al., arXiv:1411.5726), as coco-caption computes it.

    Published scores are 100 times this.

    Args:
      records: `prediction`, and what people wrote in `answers` (or `suffix`); one record an image.
        Records without references are not counted.
      tokenizer: "ptb", coco-caption's, also for languages other than English in the published
        code; "multilingual"; or "split", lower case and white space.
      bleu: BLEU as well.
      key: where a record names its language or set. Each is a corpus of its own, and the result
        their mean: COCO-35L and XM3600 with key="language".
      apart: one of these values, which the published means over 34 and 35 languages leave out.

    Returns:
      `cider` in 0..10, with bleu `bleu1` … `bleu4` in 0..1; with a key also `cider/<value>` for
      each, and `cider/avg<number>`, the mean over those others than `apart`, if that is one of
      them. A record's own `cider`, whose mean is that of its corpus, goes to its `scores`.

    Raises:
      UserError: an unknown tokenizer.
      DataError: a record without its `key`, or no labelled one.
    """
    if tokenizer not in TOKENIZERS:
        raise UserError(f"cider has no tokenizer {tokenizer!r}, expected one of {[*TOKENIZERS]}.")
    corpora = _corpora(records, key)
    scores = {value: _score(corpus, TOKENIZERS[tokenizer], bleu) for value, corpus in corpora}
    result = _means(scores.values())
    if key:
        result |= {f"{name}/{value}": each[name] for value, each in scores.items() for name in each}
        if others := [each for value, each in scores.items() if value != apart and apart in scores]:
            result |= {f"{name}/avg{len(others)}": v for name, v in _means(others).items()}
    return result


def _means(scores: Collection[dict[str, float]]) -> dict[str, float]:
    """The mean of each score."""
    names = next(iter(scores))
    return {name: sum(each[name] for each in scores) / len(scores) for name in names}


def _corpora(records: Sequence[dict], key: str) -> list[tuple[str, list[dict]]]:
    corpora: dict[str, list[dict]] = {}
    for record in records:
        if key and key not in record:
            raise DataError(f"metric cider expects the key {key!r}, the example has {list(record)}")
        if references(record):
            corpora.setdefault(str(record[key]) if key else "", []).append(record)
    if not corpora:
        raise DataError(f"metric cider: none of {len(records)} records has references")
    return list(corpora.items())


def _score(records: list[dict], tokenize: Callable, bleu: bool) -> dict[str, float]:
    candidates, texts = tokenized(records, tokenize)
    candidates = [text.split() for text in candidates]
    truths = [[text.split() for text in each] for each in texts]
    values = cider_d(candidates, truths)
    for record, value in zip(records, values, strict=True):
        record.setdefault("scores", {})["cider"] = value
    scores = {"cider": sum(values) / len(values)}
    if bleu:
        scores |= {f"bleu{n}": v for n, v in enumerate(corpus_bleu(candidates, truths), 1)}
    return scores


def tokenized(
    records: Sequence[dict], tokenize: Callable[[Sequence[str]], list[str]]
) -> tuple[list[str], list[list[str]]]:
    """The predictions of records, and the references of each, as words joined by spaces."""
    groups = [references(record) for record in records]
    flat = iter(tokenize([text for group in groups for text in group]))
    return (
        tokenize([record["prediction"] for record in records]),
        [[next(flat) for _ in group] for group in groups],
    )


# What pycocoevalcap computes with Java or on its own: its module, and its class.
_COCO = {
    "meteor": ("pycocoevalcap.meteor.meteor", "Meteor"),
    "rouge_l": ("pycocoevalcap.rouge.rouge", "Rouge"),
    "spice": ("pycocoevalcap.spice.spice", "Spice"),
}


@METRICS.register("coco_caption", main="meteor", corpus=True)
def coco_caption(
    records: Sequence[dict], *, metrics: Sequence[str] = ("meteor", "rouge_l")
) -> dict[str, float]:
    """METEOR, ROUGE-L and SPICE of captions, computed by pycocoevalcap.

    Args:
      records: as for `cider`.
      metrics: some of meteor (needs Java), rouge_l, spice (needs Java, and models that it downloads
        on first use).

    Returns:
      Each in 0..1.

    Raises:
      UserError: an unknown metric; pycocoevalcap or Java is not installed.
      DataError: no labelled record.
    """
    if unknown := [name for name in metrics if name not in _COCO]:
        raise UserError(f"coco_caption has no metric {unknown}, expected some of {[*_COCO]}.")
    if importlib.util.find_spec("pycocoevalcap") is None:
        raise UserError(
            "metric coco_caption needs pycocoevalcap: pip install -e '.[captions]'; CIDEr and BLEU "
            "(metric cider) need neither it nor Java."
        )
    if set(metrics) & {"meteor", "spice"} and shutil.which("java") is None:
        raise UserError("metric coco_caption: meteor and spice need Java, found no 'java' to run.")
    [(_, labelled)] = _corpora(records, "")
    candidates, truths = tokenized(labelled, ptb_tokenize)
    res = {i: [text] for i, text in enumerate(candidates)}
    gts = dict(enumerate(truths))
    scores = {}
    for name in metrics:
        module, scorer = _COCO[name]
        scores[name] = float(
            getattr(importlib.import_module(module), scorer)().compute_score(gts, res)[0]
        )
    return scores
