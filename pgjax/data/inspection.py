"""Looks at a data set before anything is trained on it: sizes, lengths, and what is wrong."""

import collections
import concurrent.futures
import functools
import io
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from pgjax.data.draw import SheetItem, contact_sheet
from pgjax.data.pipeline import Pipeline
from pgjax.data.sources import Source
from pgjax.errors import DataError, UserError
from pgjax.text import compose
from pgjax.text.locations import BINS, CODEBOOK
from pgjax.text.noise_boxes import detection_sequence
from pgjax.text.tokenizer import Tokenizer

# The first of these is an example's own id; several captions or questions may share an image's.
IDS = ("question_id", "id")
# What looks like a token of the model, and is read as ordinary text.
_TOKEN = re.compile(r"<(?:(loc|seg)([0-9]*)|image|eos|bos|pad|unk)>")
_TOKENS = {"loc": (4, BINS), "seg": (3, CODEBOOK)}  # digits, and how many there are
SAMPLES, COLUMNS = 12, 4  # of the picture
SHOWN = 3  # places that a complaint names


class Seen(NamedTuple):
    """What one example is like.

    Attributes:
      id: its own id, if it has one.
      sizes: (height, width) of each image, in pixels.
      prompt: length of the prompt, in tokens, with bos and newline.
      target: length of the target, in tokens, with eos.
      fits: whether prompt and target fit into the text length.
      learned: whether training learns any of its tokens.
      unknown: what looks like tokens in its texts, and is read as ordinary text.
      sample: the example as the model gets it, if it is to be drawn.
    """

    id: Any
    sizes: list[tuple[int, int]]
    prompt: int
    target: int
    fits: bool
    learned: bool
    unknown: list[str]
    sample: dict[str, Any] | None


class Text(NamedTuple):
    """A pipeline up to the op that makes the text, and what that op is told.

    Attributes:
      before: the ops before it.
      length: its text length, in tokens.
      trains: whether it makes text for training, with targets.
      strict: whether text that is too long is an error.
      objects: of each target, which noise boxes fill up; 0 for targets as they are.
    """

    before: Pipeline
    length: int
    trains: bool
    strict: bool
    objects: int


def check_set(
    name: str,
    source: Source,
    pp: str,
    tokenizer: Tokenizer,
    most: int,
    out: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Looks at the examples of one source.

    Args:
      name: name of the set, for messages and for its picture.
      source: the examples.
      pp: the pipeline that prepares them.
      tokenizer: the tokenizer of the pipeline.
      most: number of examples to look at, evenly spread; 0: all.
      out: folder for the picture; None to draw none.

    Returns:
      Counts, sizes and lengths; complaints as `{count, examples}`; and `stops`, whether an example
      is too long where that ends the run.

    Raises:
      UserError: the pipeline does not make text.
    """
    whole = Pipeline.parse(pp, tokenizer=tokenizer)
    text = _text(whole, name)
    count = len(source)
    looked = min(count, most or count)
    indices = [i * count // looked for i in range(looked)]
    drawn = set(indices[:: max(1, looked // SAMPLES)][:SAMPLES])
    look = functools.partial(_look, source, text, tokenizer, drawn)
    complaints: dict[str, list[str]] = {
        "unreadable": [], "unlearned": [], "cut": [], "twice": [], "unknown": [],
    }  # fmt: skip
    seen: list[Seen] = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = pool.map(look, indices)
        bar = tqdm(results, name, total=looked, unit=" examples", disable=None, leave=False)
        for index, result in zip(indices, bar, strict=True):
            if isinstance(result, str):
                complaints["unreadable"].append(result)
                continue
            seen.append(result)
            if not result.fits:
                complaints["cut"].append(source.where(index))
            if not result.learned:
                complaints["unlearned"].append(source.where(index))
            if result.unknown:
                found = " ".join(dict.fromkeys(result.unknown))
                complaints["unknown"].append(f"{source.where(index)}: {found}")
    ids = collections.Counter(one.id for one in seen if one.id is not None)
    complaints["twice"] = [str(key) for key, times in ids.items() if times > 1]
    samples = [one.sample for one in seen if one.sample]
    if out and samples:
        out.mkdir(parents=True, exist_ok=True)
        _draw(samples, out / f"{name.replace('/', '_')}.png")
    sizes = np.array([size for one in seen for size in one.sizes]).reshape(-1, 2)
    return {
        "examples": count,
        "looked_at": looked,
        "images": sorted({len(one.sizes) for one in seen}),
        "height": _spread(sizes[:, 0].tolist()),
        "width": _spread(sizes[:, 1].tolist()),
        "text_len": text.length,
        "prompt": _spread([one.prompt for one in seen]),
        "target": _spread([one.target for one in seen]),
        "both": _spread([one.prompt + one.target for one in seen]),
        "stops": text.strict and bool(complaints["cut"]),
        **{k: {"count": len(v), "examples": v[:SHOWN]} for k, v in complaints.items()},
    }


def _text(pipeline: Pipeline, name: str) -> Text:
    for i, step in enumerate(pipeline.steps):
        if step.name in ("for_training", "for_answering", "for_detection"):
            before = Pipeline(pipeline.spec, pipeline.steps[:i])
            strict = step.arguments.get("on_truncate", "error") == "error"
            arguments, trains = step.arguments, step.name != "for_answering"
            objects = arguments.get("objects", 0)
            return Text(before, arguments["text_len"], trains, strict, objects)
    raise UserError(f"{name}: the pipeline {pipeline.spec!r} has no for_training or for_answering.")


def _look(
    source: Source, text: Text, tokenizer: Tokenizer, drawn: set[int], index: int
) -> Seen | str:
    """Looks at one example; returns the reason where it cannot be read."""
    try:
        raw = source[index]
        example = text.before(raw, rng=np.random.default_rng([0, index]))
        suffix = example.get("suffix") if text.trains else None
        if text.trains and not isinstance(suffix, str):
            got = "null" if suffix is None else f"a {type(suffix).__name__}"
            raise DataError(f"the suffix is {got}, expected one string")
        left_out = 0
        if text.objects and suffix is not None:
            tokens, _, left_out = detection_sequence(
                tokenizer, example["prefix"], suffix, text.objects, np.random.default_rng(0)
            )
        else:
            tokens = compose.sequence(tokenizer, example["prefix"], suffix, eos=text.trains)
        length = text.length + text.trains  # the model sees all but the last
        return Seen(
            id=next((str(raw[key]) for key in IDS if raw.get(key) is not None), None),
            sizes=list(_sizes(raw.get("image"))),
            prompt=len(tokens.prefix),
            target=len(tokens.suffix),
            fits=len(tokens) <= length and not left_out,
            learned=not text.trains or len(tokens.prefix) < length,
            unknown=list(_unknown(f"{example['prefix']} {suffix or ''}")),
            sample={k: example.get(k) for k in ("image", "prefix", "suffix", "answers")}
            if index in drawn
            else None,
        )
    except (DataError, OSError, ValueError, LookupError, TypeError) as e:
        return f"{source.where(index)}: {e}".encode("utf-8", "backslashreplace").decode()


def _unknown(text: str) -> Iterator[str]:
    for match in _TOKEN.finditer(text):
        kind, number = match[1], match[2]
        digits, count = _TOKENS.get(kind, (0, 0))
        if not number or len(number) != digits or int(number) >= count:
            yield match[0]


def _sizes(image: Any) -> Iterator[tuple[int, int]]:
    if isinstance(image, list):
        for one in image:
            yield from _sizes(one)
    elif isinstance(image, bytes):
        try:
            with Image.open(io.BytesIO(image)) as picture:
                yield picture.height, picture.width
        except Image.UnidentifiedImageError:  # a video, which its operation has read
            return
    elif isinstance(image, np.ndarray):
        yield image.shape[-3], image.shape[-2]


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    points = np.percentile(values, [0, 50, 95, 100]).round(1).tolist()
    return dict(zip(("min", "median", "p95", "max"), points, strict=True))


def _draw(samples: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Draws images as the model gets them, with prompts and targets."""
    items = []
    for sample in samples:
        image = np.asarray(sample["image"], np.float32)
        frames = image[None] if image.ndim == 3 else image
        if frames.min() < 0:  # the model's -1…1
            frames = (frames + 1) * 127.5
        strip = np.concatenate(list(frames.round().clip(0, 255).astype(np.uint8)), axis=1)
        target = sample["suffix"] or " | ".join(map(str, sample["answers"] or ()))
        items.append(SheetItem(image=strip, prompt=sample["prefix"], answer=target))
    scale = max(1, round(224 / items[0].image.shape[0]))
    columns = COLUMNS if np.ndim(samples[0]["image"]) == 3 else 1  # 1 for strips of frames
    contact_sheet(items, columns, scale).save(path)


def describe(found: Mapping[str, Any]) -> Iterator[str]:
    """Yields lines of text that say what was found in one set."""
    yield f"{found['examples']:,} examples, {found['looked_at']:,} looked at"
    for key in ("height", "width", "prompt", "target", "both"):
        if spread := found[key]:
            of = f" of {found['text_len']} tokens" if key in ("prompt", "target", "both") else ""
            title = "prompt and target" if key == "both" else key
            yield f"{title}: " + ", ".join(f"{k} {v:g}" for k, v in spread.items()) + of
    for key, title in (
        ("unreadable", "cannot be read"),
        ("unlearned", "have no token that is learned"),
        ("cut", "are longer than the text length" + ", which ends training" * found["stops"]),
        ("twice", "ids come more than once"),
        ("unknown", "have what looks like tokens and is read as ordinary text"),
    ):
        if count := found[key]["count"]:
            yield f"{count} {title}, e.g. {'; '.join(found[key]['examples'])}"
