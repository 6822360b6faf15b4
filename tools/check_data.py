"""Looks at the data of a config before anything is trained on it.

    python tools/check_data.py --config transfers/vqav2.py:res=448 --out checked/
    python tools/check_data.py --config transfers/forkme.py --config.input.data.fname=mine.jsonl

For the training data and every evaluation: how many examples there are; the sizes of their images;
the lengths of prompts and targets beside the text length, and how many are cut; rows that nothing
is learned from; images that cannot be read; ids that come twice; and, with --out, a picture of
samples as the model gets them, and report.json. Looks at --most examples, evenly spread, or at all.
The exit status is 3 if something is wrong.
"""

import collections
import concurrent.futures
import functools
import io
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from ml_collections import config_flags
from PIL import Image
from tqdm import tqdm

from pgjax import cli
from pgjax.config import RunConfig, parse_config
from pgjax.data import ops_text
from pgjax.data.draw import SheetItem, contact_sheet
from pgjax.data.pipeline import Pipeline
from pgjax.data.sources import Source, make_source
from pgjax.errors import DataError, UserError
from pgjax.loading.model_context import open_tokenizer
from pgjax.text import compose
from pgjax.text.tokenizer import Tokenizer

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config whose data to look at.")
_MOST = flags.DEFINE_integer("most", 2000, "Examples to look at of each set; 0: all.")
_OUT = flags.DEFINE_string("out", None, "Folder for report.json and pictures of samples.")

IDS = ("question_id", "image_id", "video_id", "id")  # the first that an example has names it
SAMPLES, COLUMNS = 12, 4
SHOWN = 3  # examples of each complaint


class Seen(NamedTuple):
    """What one example is like."""

    id: Any
    sizes: list[tuple[int, int]]  # (height, width) of each image
    prompt: int  # tokens, with bos and newline
    target: int  # tokens, with eos
    fits: bool
    learned: bool  # something of it is, in training
    sample: dict[str, Any] | None  # as the model gets it, with `image`, `prefix`, `suffix`


class Text(NamedTuple):
    """A pipeline before and from the operation that makes the text."""

    before: Pipeline
    length: int
    trains: bool


def main() -> None:
    """Looks at every set and prints what it found."""
    if _CONFIG.value is None:
        raise UserError("--config is missing; it says which data to look at.")
    config = parse_config(cli.open_config(_CONFIG))
    tokenizer = open_tokenizer(config.tokenizer)
    out = pathlib.Path(_OUT.value) if _OUT.value else None
    report = {
        name: check_set(name, make_source(data), pp, tokenizer, _MOST.value, out)
        for name, data, pp in sets(config)
    }
    for name, found in report.items():
        print("\n".join([f"{name}:", *(f"  {line}" for line in describe(found))]))
    if out:
        (out / "report.json").write_text(json.dumps(report, indent=1, default=str) + "\n")
        print(f"Pictures and report.json: {out}")
    if any(found[key]["count"] for found in report.values() for key in ("unreadable", "twice")):
        sys.exit(3)
    if any(found["unlearned"]["count"] for found in report.values()):
        sys.exit(3)


def sets(config: RunConfig) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """(name, source, pipeline) of everything that a config reads."""
    spec = config.input
    if spec.data:
        yield "train", spec.data, spec.pp
    for name, part in spec.mixture.items():
        yield f"train/{name}", part.data, part.pp or spec.pp
    for name, one in config.evals.items():
        yield name, one.data, one.pp


def check_set(
    name: str,
    source: Source,
    pp: str,
    tokenizer: Tokenizer,
    most: int,
    out: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Looks at examples of one source.

    Args:
      name: of the set, and of its picture.
      source: of the examples.
      pp: the pipeline that prepares them.
      tokenizer: of the pipeline.
      most: examples to look at, evenly spread; 0: all.
      out: folder for the picture; None for none.

    Returns:
      Counts, sizes and lengths, and complaints as `{count, examples}`.
    """
    whole = Pipeline.parse(pp, tokenizer=tokenizer)
    text = _text(whole, name)
    count = len(source)
    looked = min(count, most or count)
    indices = [i * count // looked for i in range(looked)]
    drawn = set(indices[:: max(1, looked // SAMPLES)][:SAMPLES])
    look = functools.partial(_look, source, text, tokenizer, drawn)
    complaints: dict[str, list[str]] = {
        "unreadable": [], "unlearned": [], "cut": [], "twice": [],
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
        "height": _spread(sizes[:, 0]),
        "width": _spread(sizes[:, 1]),
        "text_len": text.length,
        "prompt": _spread([one.prompt for one in seen]),
        "target": _spread([one.target for one in seen]),
        "both": _spread([one.prompt + one.target for one in seen]),
        **{k: {"count": len(v), "examples": v[:SHOWN]} for k, v in complaints.items()},
    }


def _text(pipeline: Pipeline, name: str) -> Text:
    for i, step in enumerate(pipeline.steps):
        if step.function in (ops_text.for_training, ops_text.for_answering):
            length = step.args[0] if step.args else step.kwargs["text_len"]
            trains = step.function is ops_text.for_training
            return Text(Pipeline(pipeline.spec, pipeline.steps[:i]), length, trains)
    raise UserError(f"{name}: the pipeline {pipeline.spec!r} has no for_training or for_answering.")


def _look(
    source: Source, text: Text, tokenizer: Tokenizer, drawn: set[int], index: int
) -> Seen | str:
    """One example, or why it cannot be read."""
    try:
        raw = source[index]
        example = text.before(raw, rng=np.random.default_rng([0, index]))
        suffix = example.get("suffix") if text.trains else None
        if text.trains and not isinstance(suffix, str):
            raise DataError(f"the suffix is a {type(suffix).__name__}, expected one string")
        tokens = compose.sequence(tokenizer, example["prefix"], suffix, eos=text.trains)
        length = text.length + text.trains  # the model sees all but the last
        return Seen(
            id=next((raw[key] for key in IDS if key in raw), None),
            sizes=list(_sizes(raw.get("image"))),
            prompt=len(tokens.prefix),
            target=len(tokens.suffix),
            fits=len(tokens) <= length,
            learned=not text.trains or len(tokens.prefix) < length,
            sample={k: example.get(k) for k in ("image", "prefix", "suffix", "answers")}
            if index in drawn
            else None,
        )
    except (DataError, OSError, ValueError, LookupError, TypeError) as e:
        return f"{source.where(index)}: {e}"


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
        yield image.shape[-3:-1]


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not len(values):
        return {}
    points = np.percentile(values, [0, 50, 95, 100]).round(1).tolist()
    return dict(zip(("min", "median", "p95", "max"), points, strict=True))


def _draw(samples: list[dict[str, Any]], path: pathlib.Path) -> None:
    """A picture of the images as the model gets them, with prompts and targets."""
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
    contact_sheet(items, COLUMNS if image.ndim == 3 else 1, scale).save(path)


def describe(found: Mapping[str, Any]) -> Iterator[str]:
    """What was found in one set, in lines."""
    yield f"{found['examples']:,} examples, {found['looked_at']:,} looked at"
    for key in ("height", "width", "prompt", "target", "both"):
        if spread := found[key]:
            of = f" of {found['text_len']} tokens" if key in ("prompt", "target", "both") else ""
            title = "prompt and target" if key == "both" else key
            yield f"{title}: " + ", ".join(f"{k} {v:g}" for k, v in spread.items()) + of
    for key, title in (
        ("unreadable", "cannot be read"),
        ("unlearned", "have no token that is learned"),
        ("cut", "are longer than the text length"),
        ("twice", "ids come more than once"),
    ):
        if count := found[key]["count"]:
            yield f"{count} {title}, e.g. {'; '.join(found[key]['examples'])}"


if __name__ == "__main__":
    cli.run(main)
