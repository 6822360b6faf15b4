"""Scores of referring expression segmentation (RefCOCO, RefCOCO+, RefCOCOg)."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool

from pgjax.errors import DataError
from pgjax.metrics.boxes import iou, reference_boxes
from pgjax.registry import METRICS
from pgjax.run_lengths import run_length_mask
from pgjax.text.locations import BINS, parse_boxes

# The published scores read location tokens as 1023rds, so that the last one is the far edge.
_SCALE = BINS / (BINS - 1)

Mask = Bool[np.ndarray, "h w"]
# Draws 16 codes in a box (y0, x0, y1, x1) in 0..1 into a mask of the size (height, width).
DrawMask = Callable[[Sequence[int], Sequence[float], tuple[int, int]], Mask]


@METRICS.register("segmentation", main="miou", needs=("draw",))
def segmentation(prediction: str, meta: dict, *, draw: DrawMask) -> dict[str, float]:
    """Scores the mask in an answer, at the image's full resolution, and its box.

    The first object in the answer that has a mask counts. An answer without a mask, or with a box
    that covers no pixel or has its edges in the other order, scores 0, as in the published scores.

    Args:
      prediction: the decoded answer with 4 location tokens and 16 segmentation tokens.
      meta: holds the reference `mask`, as COCO run lengths (`{"size": [h, w], "counts": …}`) or as
        an array [h, w]. The reference box is the first of `boxes` (y0, x0, y1, x1) in 0..1 if there
        are any, or else the box around the mask.
      draw: decodes codes into a mask of the image. It runs a model, so the evaluator provides it.

    Returns:
      `miou`, the IoU of the mask in 0..1; `boxacc/0.5` and `boxacc/0.75`, which are 1.0 if the IoU
      of the box is at least that; and `valid`, which is 1.0 if there is a mask. Their means are the
      published mIoU (over phrases, not pixels) and the shares of right boxes.

    Raises:
      DataError: the reference mask is missing, damaged or empty.
    """
    truth = _reference(meta)
    height, width = truth.shape
    for found in parse_boxes(prediction, mend=False):
        if found.codes:
            box = [v * _SCALE for v in found[:4]]
            y0, x0, y1, x1 = (int(v * s) for v, s in zip(box, (height, width) * 2, strict=True))
            if y0 < y1 and x0 < x1:
                mask = draw(found.codes, box, (height, width))
                overlap = iou(box, reference_boxes(meta)[0] if "boxes" in meta else _bounds(truth))
                return {
                    "miou": float((mask & truth).sum() / (mask | truth).sum()),
                    "boxacc/0.5": float(overlap >= 0.5),
                    "boxacc/0.75": float(overlap >= 0.75),
                    "valid": 1.0,
                }
            break
    return {"miou": 0.0, "boxacc/0.5": 0.0, "boxacc/0.75": 0.0, "valid": 0.0}


def _reference(meta: dict) -> Mask:
    """Returns the reference mask, which is not empty."""
    if "mask" not in meta:
        raise DataError(
            f"The metric segmentation needs the key 'mask', but the example has {list(meta)}."
        )
    mask = meta["mask"]
    if isinstance(mask, dict):
        height, width = map(int, mask["size"])
        mask = run_length_mask({**mask, "size": [height, width]}, (height, width))
    mask = np.asarray(mask).astype(bool)
    if mask.ndim != 2 or not mask.any():
        raise DataError(
            f"The metric segmentation needs a reference mask [h, w] with at least one pixel, but "
            f"the mask of shape {mask.shape} has {int(mask.sum())}."
        )
    return mask


def _bounds(mask: Mask) -> tuple[float, float, float, float]:
    """Returns the box (y0, x0, y1, x1) around a mask, in 0..1."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    return rows[0] / height, columns[0] / width, (rows[-1] + 1) / height, (columns[-1] + 1) / width
