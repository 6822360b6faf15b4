"""Answers for images on disk: one, a folder, or a JSONL, from a run directory."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from pgjax import sharding
from pgjax.data.loader import EvalLoader, Part
from pgjax.decoding.samplers import make_sampler
from pgjax.errors import UserError
from pgjax.inference.answer import INPUTS, make_answer_fn, texts
from pgjax.inference.session import Session, open_run

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


class FileSource:
    """Images in files, all asked the same prompt (None: the one of training)."""

    def __init__(self, files: list[pathlib.Path], prompt: str | None):
        """Keeps the paths; files are read one by one."""
        self.files, self.prompt = files, prompt

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`image` bytes, and `prefix` if there is a prompt."""
        example: dict[str, Any] = {"image": self.files[index].read_bytes()}
        return example if self.prompt is None else {**example, "prefix": self.prompt}

    def where(self, index: int) -> str:
        """The file."""
        return str(self.files[index])


def image_files(path: pathlib.Path) -> list[pathlib.Path]:
    """The image itself, or all images below a folder, sorted.

    Raises:
      UserError: nothing there.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"--image {path} does not exist.")
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"--image {path} holds no image ({', '.join(SUFFIXES)}).")
    return files


def predict(
    run: pathlib.Path,
    source: Any,
    *,
    max_new_tokens: int,
    sampler: str = "greedy",
    seed: int = 0,
    batch_size: int = 8,
) -> Iterator[dict[str, Any]]:
    """Answers every example of a source, with the operations the run was trained with.

    Args:
      run: run directory.
      source: with `__len__`, `__getitem__` and `where`, such as `FileSource` or JSONL.
      max_new_tokens: longest answer, eos included.
      sampler: `greedy` or `temperature(0.7)`.
      seed: of the sampler.
      batch_size: examples decoded together.

    Yields:
      `{where, …text keys of the example, prediction, logprob}` in order; `logprob` is the sum
      over the answer's tokens.

    Raises:
      UserError: what is missing in the run or the source.
    """
    make_sampler(sampler)  # a typo is said before anything is loaded
    session, params = open_run(run)
    batch_size = min(batch_size, max(len(source), 1))
    step = session.mesh.shape["data"]
    batch_size = -(-batch_size // step) * step  # a whole number of rows per device
    loader = EvalLoader(Part(source, Answering(session), name="predict"), batch_size)
    fn = make_answer_fn(session, max_new_tokens=max_new_tokens, sampler=sampler)
    for i, batch in enumerate(loader):
        inputs = sharding.to_device(session.mesh, {k: batch[k] for k in INPUTS})
        out = fn(params, inputs, jax.random.fold_in(jax.random.key(seed), i))
        logprobs = np.asarray(out.logprobs).sum(axis=1)
        rows = zip(texts(session, out), logprobs, batch["meta"], batch["_mask"], strict=True)
        for text, logprob, meta, valid in rows:
            if valid:
                index = meta.pop("index")
                yield {
                    "where": source.where(index),
                    **meta,
                    "prediction": text,
                    "logprob": round(float(logprob), 4),
                }


class Answering:
    """The run's preparation of images and prompts; its own prompt where an example has none."""

    def __init__(self, session: Session):
        """Parses the two pipelines.

        Raises:
          UserError: the run's config does not say how to answer.
        """
        spec = session.config["answering"]
        if not spec["image"] or not spec["text"]:
            raise UserError("The run's config.answering is empty, so prompts cannot be prepared.")
        self.given = session.pipeline(f"{spec['image']}|{spec['text']}")
        own = [spec["image"], spec["prompt"], spec["text"]]
        self.own = session.pipeline("|".join(filter(None, own)))

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Example -> model inputs."""
        return (self.given if "prefix" in example else self.own)(example, rng=rng)


def as_line(record: dict[str, Any]) -> str:
    """One line of JSON; what JSON cannot hold is written as its repr."""
    return json.dumps(record, ensure_ascii=False, default=repr)
