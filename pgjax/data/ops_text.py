"""Ops on text. Text is str; bytes, which TFDS may return, are decoded as UTF-8."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from pgjax.data.example import Example
from pgjax.errors import DataError
from pgjax.registry import OPS
from pgjax.text import compose
from pgjax.text.compose import OnTruncate
from pgjax.text.locations import format_boxes
from pgjax.text.tokenizer import Tokenizer

_CELL = re.compile(r"(<t[dh](?: [^<>]*)?>)")  # the beginning of a cell in HTML


def _decoded(value: Any) -> Any:
    """Converts bytes to str and arrays to lists, at any depth; leaves other values as they are."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_decoded(v) for v in value]
    return value.decode() if isinstance(value, bytes) else value


def _each(example: Example, key: str, function: Callable[[str], str]) -> Example:
    """Applies `function` to the text under `key`, or to each text of a list."""

    def apply(value: Any) -> Any:
        if isinstance(value, list):
            return [apply(v) for v in value]
        if not isinstance(value, str):
            raise DataError(f"{key!r} holds a {type(value).__name__}, expected text.")
        return function(value)

    return {**example, key: apply(_decoded(example[key]))}


def _list(example: Example, key: str) -> list[Any]:
    values = _decoded(example[key])
    if not isinstance(values, list):
        raise DataError(f"{key!r} is a {type(values).__name__}, expected a list to choose from.")
    if not values:
        raise DataError(f"{key!r} is an empty list, expected at least one entry.")
    return values


class _Fields(dict[str, Any]):
    """The values of a template's fields: those of the example, with bytes decoded."""

    def __init__(self, example: Example):
        self.example = example

    def __missing__(self, key: str) -> Any:
        return _decoded(self.example[key])


@OPS.register("strfmt")
def strfmt(example: Example, template: str, outkey: str = "text") -> Example:
    """Write the template, such as 'answer en {question}', with the example's values filled in."""
    return {**example, outkey: template.format_map(_Fields(example))}


@OPS.register("choice")
def choice(
    example: Example,
    key: str | tuple[str, ...],
    outkey: str | tuple[str, ...] | None = None,
    *,
    rng: np.random.Generator,
) -> Example:
    """Pick one entry of a list at random, such as one of several captions.

    With several keys, whose lists have the same length, the entries at the same index are picked.
    """
    keys = (key,) if isinstance(key, str) else key
    outkeys = keys if outkey is None else (outkey,) if isinstance(outkey, str) else outkey
    values = [_list(example, k) for k in keys]
    if len({len(v) for v in values}) > 1 or len(keys) != len(outkeys):
        lengths = dict(zip(keys, map(len, values), strict=True))
        raise DataError(f"lists of lengths {lengths} cannot give one entry each for {outkeys}.")
    index = int(rng.integers(len(values[0])))
    return {**example, **{k: v[index] for k, v in zip(outkeys, values, strict=True)}}


@OPS.register("choice_at")
def choice_at(example: Example, key: str, index: int = 0, outkey: str | None = None) -> Example:
    """Pick the entry of a list at index; a negative index counts from the end."""
    values = _list(example, key)
    if not -len(values) <= index < len(values):
        raise DataError(f"{key!r} has {len(values)} entries, so none at index {index}.")
    return {**example, outkey or key: values[index]}


@OPS.register("join")
def join(example: Example, key: str, sep: str = ", ", outkey: str | None = None) -> Example:
    """Join a list of texts into one."""
    return {**example, outkey or key: sep.join(map(str, _decoded(example[key])))}


@OPS.register("lower")
def lower(example: Example, key: str) -> Example:
    """Lower the case of a text, or of every text in a list."""
    return _each(example, key, str.lower)


@OPS.register("strip")
def strip(example: Example, key: str) -> Example:
    """Remove white space around a text, or around every text in a list."""
    return _each(example, key, str.strip)


@OPS.register("boxes_to_loc")
def boxes_to_loc(
    example: Example,
    boxes_key: str = "boxes",
    labels_key: str = "labels",
    outkey: str = "suffix",
) -> Example:
    """Write boxes as '<locY0><locX0><locY1><locX1> label ; …'; boxes without area are omitted."""
    boxes = np.asarray(example[boxes_key], np.float64).reshape(-1, 4)
    labels = _decoded(example[labels_key])
    if not isinstance(labels, list) or len(labels) != len(boxes):
        got = len(labels) if isinstance(labels, list) else f"a {type(labels).__name__}"
        raise DataError(f"{boxes_key!r} has {len(boxes)} boxes, but {labels_key!r} is {got}.")
    # A crop may have left a box without area.
    kept = [i for i, (y0, x0, y1, x1) in enumerate(boxes) if y0 < y1 and x0 < x1]
    text = format_boxes(boxes[kept].tolist(), [labels[i] for i in kept])
    return {**example, outkey: text}


@OPS.register("boxes_to_cells")
def boxes_to_cells(
    example: Example,
    html_key: str,
    boxes_key: str = "boxes",
    cells_key: str = "cells",
    outkey: str = "suffix",
) -> Example:
    """Write boxes into the HTML of a table, as '<td><locY0><locX0><locY1><locX1>text</td>'.

    cells_key holds the number of each box's cell among all; boxes without area are omitted.
    """
    table = _decoded(example[html_key])
    if not isinstance(table, str):
        raise DataError(f"{html_key!r} holds a {type(table).__name__}, expected text.")
    parts = _CELL.split(table)  # what stands before, and for each cell its beginning and the rest
    count = len(parts) // 2
    boxes = np.asarray(example[boxes_key], np.float64).reshape(-1, 4)
    cells = np.asarray(example[cells_key], np.int64).tolist()
    if len(cells) != len(boxes) or not all(0 <= cell < count for cell in cells):
        raise DataError(
            f"{cells_key!r} is {cells!s:.80}, expected the cell of each of the {len(boxes)} boxes, "
            f"of {count} cells."
        )
    for cell, (y0, x0, y1, x1) in zip(cells, boxes.tolist(), strict=True):
        if y0 < y1 and x0 < x1:
            parts[2 * cell + 1] += format_boxes([(y0, x0, y1, x1)], [""])
    return {**example, outkey: "".join(parts)}


@OPS.register("tok")
def tok(
    example: Example,
    key: str = "text",
    outkey: str | None = None,
    bos: bool = False,
    eos: bool = False,
    text: str | None = None,
    *,
    tokenizer: Tokenizer,
) -> Example:
    """Tokenize the text under key, or a literal text, to int32 [T]."""
    value = _decoded(example[key]) if text is None else text
    if not isinstance(value, str):
        raise DataError(f"{key!r} holds a {type(value).__name__}, expected text.")
    return {**example, outkey or key: np.array(tokenizer.encode(value, bos, eos), np.int32)}


@OPS.register("for_training")
def for_training(
    example: Example,
    text_len: int,
    prefix: str = "prefix",
    suffix: str = "suffix",
    on_truncate: OnTruncate = "error",
    *,
    tokenizer: Tokenizer,
) -> Example:
    """Make text, mask_ar and mask_loss, [text_len + 1], from the prefix and suffix keys.

    A text that does not fit is an error, or is dropped or cut, which sets `_truncated`.
    """
    texts = _decoded(example[prefix]), _decoded(example[suffix])
    tokens = compose.sequence(tokenizer, *texts, eos=True)
    cut = compose.check_fits(tokens, text_len + 1, on_truncate)
    return _mark(example, cut) | compose.pack_training(tokens, text_len)


@OPS.register("for_answering")
def for_answering(
    example: Example,
    text_len: int,
    prefix: str = "prefix",
    on_truncate: OnTruncate = "error",
    *,
    tokenizer: Tokenizer,
) -> Example:
    """Make text, mask_ar and mask_input, [text_len], from the prefix key, to be continued.

    A text that does not fit is an error, or is dropped or cut, which sets `_truncated`.
    """
    tokens = compose.sequence(tokenizer, _decoded(example[prefix]), None, eos=False)
    cut = compose.check_fits(tokens, text_len, on_truncate)
    return _mark(example, cut) | compose.pack_answering(tokens, text_len)


def _mark(example: Example, cut: bool) -> Example:
    return {**example, "_truncated": True} if cut else example
