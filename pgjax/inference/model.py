"""A loaded checkpoint that answers: what `pgjax.load` returns.

model = pgjax.load("mix-224")
model.generate("bee.jpg", "answer en what is on the flower?")
"""

import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from pgjax import sharding
from pgjax.data.decode import as_rgb
from pgjax.data.loader import EvalLoader, Part
from pgjax.data.masks import paste_mask
from pgjax.errors import UserError
from pgjax.inference.answer import (
    INPUTS,
    Answer,
    make_answer_fn,
    make_stream_fn,
    read_answer,
)
from pgjax.inference.lengths import compiled_length, trimmed
from pgjax.inference.mask_codec import open_codec
from pgjax.inference.objects import DetectedObject, scored_objects
from pgjax.inference.rows_that_fit import rows_that_fit
from pgjax.loading.model_context import Flat, ModelContext

ImageLike = str | os.PathLike | bytes | Image.Image | np.ndarray

MOST_ROWS = 64  # of a batch, however much memory there is


class PromptedImages:
    """Images in memory or in files, each with its prompt (None: the prompt of training)."""

    def __init__(self, images: Sequence[ImageLike], prompts: Sequence[str | None]):
        """Keeps both; files are read one by one."""
        self.images, self.prompts = images, prompts

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`image`, and `prefix` if there is a prompt."""
        image, prompt = self.images[index], self.prompts[index]
        if isinstance(image, str | os.PathLike):
            try:
                with open(image, "rb") as f:
                    image = f.read()
            except OSError as e:
                raise UserError(f"cannot read the image {image}: {e.strerror}") from None
        elif not isinstance(image, bytes):
            image = as_rgb(image)
        return {"image": image} | ({} if prompt is None else {"prefix": prompt})

    def where(self, index: int) -> str:
        """The file, or which of the images."""
        image = self.images[index]
        return str(image) if isinstance(image, str | os.PathLike) else f"image {index}"


class PromptPreprocessor:
    """Prepares images and prompts as in training; its own prompt where an example has none."""

    def __init__(self, context: ModelContext, keep_picture: bool = False):
        """Parses the operations that the config names.

        Raises:
          UserError: the config does not say how to answer.
        """
        spec = context.config.answering
        if not spec.image or not spec.text:
            raise UserError("The run's config.answering is empty, so prompts cannot be prepared.")
        self.image, self.prompt, self.text = map(
            context.pipeline, (spec.image, spec.prompt, spec.text)
        )
        self.keep_picture = keep_picture

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """Example -> model inputs, with the decoded image under `picture` where it is kept."""
        for step in self.image.steps:
            example = step(example, rng)
            if self.keep_picture and "picture" not in example:  # the first operation decodes
                example = {**example, "picture": example["image"]}
        if "prefix" not in example:
            example = self.prompt(example, rng=rng)
        return self.text(example, rng=rng)


class Model:
    """A checkpoint with everything needed to ask it."""

    def __init__(self, context: ModelContext, params: Flat):
        """Nothing is compiled yet: that happens at the first question of each shape."""
        self.context, self.params = context, params
        self._stream = functools.cache(functools.partial(make_stream_fn, context))
        self._masks = functools.cache(lambda: open_codec(tiny=context.config.tokenizer == "tiny"))
        self._prepare = functools.cache(functools.partial(PromptPreprocessor, context))
        self._prepare()  # a checkpoint that cannot be asked is said now
        self._program = functools.cache(functools.partial(make_answer_fn, context))

    @property
    def res(self) -> int:
        """Height and width of the images that the model sees, in pixels."""
        return self.context.config.model.res

    def answers(
        self,
        source: Any,
        *,
        max_new_tokens: int = 64,
        seed: int = 0,
        batch_size: int = 0,
        keep_picture: bool = False,
        **options: Any,
    ) -> Iterator[tuple[dict[str, Any], Answer]]:
        """Answers every example of a source, in order.

        Args:
          source: with `__len__`, `__getitem__` and `where`, such as `PromptedImages` or JSONL.
          max_new_tokens: longest answer, eos included.
          seed: of the sampler.
          batch_size: examples decoded together; 0 for as many as fit into memory.
          keep_picture: whether `picture`, uint8 [H,W,3], comes along.
          **options: of `make_answer_fn`: sampler, …

        Yields:
          (text keys of the example and its `index`, answer).

        Raises:
          UserError: an unknown option, or an unreadable example.
        """
        if not len(source):
            return
        length = compiled_length(max_new_tokens)
        program = self._program(max_new_tokens=length, **_hashable(options))
        rows = self._rows(len(source), batch_size, length)
        loader = EvalLoader(Part(source, self._prepare(keep_picture), name="predict"), rows)
        for batch in loader:
            inputs = sharding.to_device(self.context.mesh, _trim({k: batch[k] for k in INPUTS}))
            out = program(self.params, inputs, seed, limit=max_new_tokens)
            tokens, logprobs = map(np.asarray, out)
            for row, meta in enumerate(batch["meta"]):
                if batch["_mask"][row]:
                    yield meta, read_answer(self.context.tokenizer, tokens[row], logprobs[row])

    def generate(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str] | None = None,
        *,
        return_answers: bool = False,
        **options: Any,
    ) -> Any:
        """Answers prompts about images.

        Args:
          images: one image or a list: a path, encoded bytes, a PIL image, uint8 [H,W,3], or
            frames [F,H,W,3].
          prompts: one prompt or a list; one of either serves all of the other. None for the
            prompt that the checkpoint was tuned with.
          return_answers: for `Answer`s, with tokens and log-probabilities, instead of texts.
          **options: max_new_tokens, sampler, seed, batch_size, …, see `answers`.

        Returns:
          The answer's text, or a list of them where images or prompts are a list.
        """
        source, many = _asked(images, prompts)
        found = [answer for _, answer in self.answers(source, **options)]
        if not return_answers:
            found = [answer.text for answer in found]
        return found if many else found[0]

    def stream(
        self,
        image: ImageLike,
        prompt: str | None = None,
        *,
        max_new_tokens: int = 64,
        seed: int = 0,
        **options: Any,
    ) -> Iterator[str]:
        """Answers one prompt piece by piece: `for piece in model.stream(image, "caption en"):`.

        Args:
          image: as in `generate`.
          prompt: as in `generate`.
          max_new_tokens: longest answer, eos included.
          seed: of the sampler.
          **options: sampler (one that chooses token by token), stop, allowed, forbidden.

        Yields:
          The text that is new; all pieces together are the answer of `generate`.
        """
        length = compiled_length(max_new_tokens)
        program = self._stream(max_new_tokens=length, **_hashable(options))
        loader = EvalLoader(
            Part(PromptedImages([image], [prompt]), self._prepare(), name="stream"), 1
        )
        batch = next(iter(loader))
        inputs = sharding.to_device(self.context.mesh, _trim({k: batch[k] for k in INPUTS}))
        said = ""
        for out in program(self.params, inputs, seed, limit=max_new_tokens):
            text = read_answer(self.context.tokenizer, out.tokens[0], out.logprobs[0]).text
            # What a later token may still change (half a character) is held back.
            if text.startswith(said) and not text.endswith("\ufffd"):
                yield text[len(said) :]
                said = text

    def detect(
        self, images: ImageLike | Sequence[ImageLike], prompts: str | Sequence[str], **options: Any
    ) -> list[DetectedObject] | list[list[DetectedObject]]:
        """Finds objects, such as `model.detect(image, "bee ; flower")`.

        Args:
          images: as in `generate`.
          prompts: what to look for, ` ; ` between several; `detect ` is put before it.
          **options: see `answers`.

        Returns:
          The objects of the image in the order of the answer, or a list of such lists.
        """
        return self._look("detect", images, prompts, options)

    def segment(
        self, images: ImageLike | Sequence[ImageLike], prompts: str | Sequence[str], **options: Any
    ) -> list[DetectedObject] | list[list[DetectedObject]]:
        """Finds objects with their masks, such as `model.segment(image, "bee")`; see `detect`."""
        return self._look("segment", images, prompts, options)

    def objects(
        self, answer: Answer, size: tuple[int, int], *, masks: bool
    ) -> list[DetectedObject]:
        """Reads the objects of an answer about an image of `size` (height, width)."""
        found = []
        for thing, score in scored_objects(self.context.tokenizer, answer.tokens, answer.logprobs):
            edges = thing[:4]
            box = tuple(v * side for v, side in zip(edges, size * 2, strict=True))
            if not masks:
                found.append(DetectedObject(thing.label, box, score))
            elif thing.codes:
                mask = paste_mask(self._masks().decode(thing.codes), edges, size)
                found.append(DetectedObject(thing.label, box, score, mask))
        return found

    def _look(self, verb, images, prompts, options):
        prefix = f"{verb} "
        if isinstance(prompts, str):
            prompts = prefix + prompts.removeprefix(prefix)
        else:
            prompts = [prefix + prompt.removeprefix(prefix) for prompt in prompts]
        source, many = _asked(images, prompts)
        found = [
            self.objects(answer, meta["picture"].shape[:2], masks=verb == "segment")
            for meta, answer in self.answers(source, keep_picture=True, **options)
        ]
        return found if many else found[0]

    def _rows(self, count: int, batch_size: int, length: int) -> int:
        """A power of two where the caller leaves it open, so that few shapes are compiled."""
        most = batch_size or min(MOST_ROWS, rows_that_fit(self.context, length))
        rows = min(1 << (count - 1).bit_length(), most)
        each = self.context.mesh.shape["data"]
        return -(-rows // each) * each


def _asked(images: Any, prompts: Any) -> tuple[PromptedImages, bool]:
    """Pairs images with prompts; whether the caller gave a list of either."""
    lists = [x for x in (images, prompts) if isinstance(x, list | tuple)]
    if len({len(x) for x in lists}) > 1:
        raise UserError(
            f"got {len(images)} images and {len(prompts)} prompts, expected as many, or one of "
            "either."
        )
    count = len(lists[0]) if lists else 1
    pairs = (x if isinstance(x, list | tuple) else [x] * count for x in (images, prompts))
    return PromptedImages(*pairs), bool(lists)


def _hashable(options: dict[str, Any]) -> dict[str, Any]:
    """Lists of texts as tuples, a single text as one of it."""
    texts = ("stop", "allowed", "forbidden")
    found = {k: (v,) if isinstance(v, str) else v for k, v in options.items() if k in texts}
    return {**options, **{k: v if v is None else tuple(v) for k, v in found.items()}}


def _trim(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Drops columns that are padding in all rows, to the next compiled length."""
    used = int(batch["mask_input"].sum(axis=1).max())
    return trimmed(batch, compiled_length(used))
