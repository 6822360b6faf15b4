"""Targets of detection that are filled up with noise boxes, as in Pix2Seq (arXiv:2109.10852).

    tokens     bos  p  \\n  loc loc loc loc  cat  ;  loc loc loc loc  noise  ;  …  noise  eos
    mask_loss   0   0   0    1   1   1   1    1   1    0   0   0   0     1    0       1    1

PaliGemma 2 (arXiv:2412.03555) is tuned so as a detector. Each target has the same number of
objects: those of the image in a random order, then boxes where nothing is, whose class is noise and
whose coordinates are not learned. So the model never learns to stop early, and learns how likely
it is that a box holds something: the probability of the class is the score of a box.

The class of noise is the token `<unk>`: every vocabulary has it, and no text becomes it, because
SentencePiece spells what it does not know in bytes. So no label is mistaken for noise.
"""

from collections.abc import Sequence

import numpy as np

from pgjax.errors import DataError
from pgjax.text.compose import (
    DropExample,
    OnTruncate,
    TextArrays,
    TokenSequence,
    pack_training,
    sequence,
)
from pgjax.text.locations import BINS, Box, count_locations, format_boxes, parse_boxes, to_bins
from pgjax.text.tokenizer import Tokenizer

SEPARATOR = " ; "  # between two objects
_JITTER = 0.1  # how far the edges of a copied box move, of its height or width


def separator_ids(tokenizer: Tokenizer) -> tuple[list[int], int]:
    """Returns the tokens between a label and the next box, and which of them holds the semicolon.

    Labels hold no semicolon, so that this token tells where a label ends.
    """
    ids = tokenizer.encode(SEPARATOR)
    return ids, next(i for i, token in enumerate(ids) if ";" in (tokenizer.text_of(token) or ""))


def detection_sequence(
    tokenizer: Tokenizer, prefix: str, suffix: str, objects: int, rng: np.random.Generator
) -> tuple[TokenSequence, list[int], int]:
    """Tokenizes a prompt and a target that is filled up to a number of objects.

    Args:
      tokenizer: the tokenizer.
      prefix: the prompt.
      suffix: the objects of the image, as `pgjax.text.locations.format_boxes` writes them; "" for
        an image without any.
      objects: the number of objects in the target.
      rng: draws the order, and the noise boxes.

    Returns:
      The tokens; for each of the suffix 1 if it is learned, else 0; and how many objects were left
      out, because the image has more.

    Raises:
      DataError: the suffix is not a list of objects with labels and without masks.
    """
    boxes = _read(suffix)
    kept = [boxes[i] for i in rng.permutation(len(boxes))[:objects]]
    between, _ = separator_ids(tokenizer)
    ids, learned = list[int](), list[int]()
    for box in kept:
        one = tokenizer.encode(format_boxes([box[:4]], [box.label])) + between
        ids += one
        learned += [1] * len(one)
    for box in _noise_boxes(kept, objects - len(kept), rng):
        ids += [*map(tokenizer.loc_id, box), tokenizer.unk_id, *between]
        learned += [0, 0, 0, 0, 1] + [0] * len(between)
    end = len(ids) - len(between)  # eos stands in place of the last separator
    prompt = sequence(tokenizer, prefix, None, eos=False).prefix
    tokens = TokenSequence(prompt, [*ids[:end], tokenizer.eos_id])
    return tokens, [*learned[:end], 1], len(boxes) - len(kept)


def detection_arrays(
    tokenizer: Tokenizer,
    prefix: str,
    suffix: str,
    text_len: int,
    objects: int,
    rng: np.random.Generator,
    on_truncate: OnTruncate = "error",
) -> tuple[TextArrays, bool]:
    """Makes the text arrays of a training example whose target has a given number of objects.

    Args:
      tokenizer: the tokenizer.
      prefix: as for `detection_sequence`.
      suffix: as for `detection_sequence`.
      text_len: the number of text tokens that the model sees; the arrays are longer by one.
      objects: as for `detection_sequence`.
      rng: as for `detection_sequence`.
      on_truncate: what happens to an image of more objects: an error, dropping the example, or a
        random choice of the objects.

    Returns:
      `text`, `mask_ar` and `mask_loss`, each int32 [text_len + 1], and whether objects were left
      out.

    Raises:
      DataError: as for `detection_sequence`, or the objects or their tokens do not fit.
      DropExample: the objects do not fit, and on_truncate is "drop".
    """
    tokens, learned, left_out = detection_sequence(tokenizer, prefix, suffix, objects, rng)
    if left_out and on_truncate != "truncate":
        raise (DropExample if on_truncate == "drop" else DataError)(
            f"The example has {objects + left_out} objects, but targets have {objects}; raise that "
            "number, or set on_truncate to 'drop' or 'truncate'."
        )
    if len(tokens) > text_len + 1:
        raise DataError(
            f"A target of {objects} objects makes a text of {len(tokens)} tokens, but only "
            f"{text_len + 1} fit; raise text_len or lower the number of objects."
        )
    arrays = pack_training(tokens, text_len)
    start = len(tokens.prefix)
    arrays["mask_loss"][start : len(tokens)] = learned
    return arrays, left_out > 0


def _read(suffix: str) -> list[Box]:
    boxes = parse_boxes(suffix)
    if count_locations(suffix) != 4 * len(boxes) or (suffix.strip() and not boxes):
        raise DataError(
            f"The target {suffix[:200]!r} is no list of objects, of four location tokens and a "
            "label each."
        )
    if bad := [box for box in boxes if not box.label or box.codes]:
        what = "a mask" if bad[0].codes else "no label"
        raise DataError(
            f"The target {suffix[:200]!r} has an object with {what}; expected boxes with labels."
        )
    return boxes


def _noise_boxes(
    real: Sequence[Box], count: int, rng: np.random.Generator
) -> list[tuple[int, int, int, int]]:
    """Draws boxes, in bins.

    A quarter of them are any boxes, a quarter near a real one. Half have the vertical extent of a
    real box and the horizontal one of another, each maybe mirrored: boxes of real sizes where
    nothing or only a part of something is, whose edges are rounded as real ones are, to pixels for
    instance, so that they are not known by that.
    """
    boxes = np.array([box[:4] for box in real], np.float64).reshape(-1, 2, 2)
    noise = []
    for kind in rng.integers(4 if len(boxes) else 1, size=count):
        if kind == 0:
            box = np.sort(rng.random((2, 2)), axis=0)
        elif kind == 1:
            box = boxes[rng.integers(len(boxes))]
            box = box + rng.uniform(-_JITTER, _JITTER, (2, 2)) * (box[1] - box[0])
        else:
            box = boxes[rng.integers(len(boxes), size=2), :, [0, 1]].T
            box = np.where(rng.random(2) < 0.5, 1 - box[::-1], box)
        (y0, x0), (y1, x1) = box.clip(0, 1 - 1 / BINS)
        (top, bottom), (left, right) = to_bins(y0, y1), to_bins(x0, x1)
        noise.append((top, left, bottom, right))
    return noise
