"""Scores of radiology reports."""

import importlib.util
from collections.abc import Sequence

from pgjax.errors import note
from pgjax.metrics.captions import cider
from pgjax.metrics.exact_match import references
from pgjax.registry import METRICS


@METRICS.register("radiology_report", main="cider", corpus=True)
def radiology_report(records: Sequence[dict]) -> dict[str, float]:
    """Computes CIDEr-D, BLEU and ROUGE-L of reports, and RadGraph F1 if `radgraph` is installed.

    RadGraph F1 (Delbrouck et al., EMNLP 2022) compares the clinical entities that a model finds in
    two reports, and whether they stand in relations ("partial"). Its package downloads that model.

    Args:
      records: one per radiograph; each holds `prediction`, and the report in `answers` (or
        `suffix`). Records without a report are skipped.

    Returns:
      `cider` in 0..10, and `bleu1` to `bleu4`, `rouge_l` and `radgraph`, each in 0..1; without the
      package `radgraph`, which a note then says, the last is missing.

    Raises:
      DataError: no record has a report.
    """
    scores = cider(records, bleu=True, rouge=True)
    if importlib.util.find_spec("radgraph") is None:
        note("RadGraph F1 is left out of the scores: it needs the package radgraph.")
        return scores
    from radgraph import F1RadGraph  # pyright: ignore[reportMissingImports]

    pairs = [(r["prediction"], refs[0]) for r in records if (refs := references(r))]
    found, truths = map(list, zip(*pairs, strict=True))
    return {**scores, "radgraph": float(F1RadGraph(reward_level="partial")(found, truths)[0])}
