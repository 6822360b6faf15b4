"""A loaded checkpoint that generates text about images: what `pgjax.load` returns.

model = pgjax.load("mix-224")
model.generate("bee.jpg", "answer en what is on the flower?")
"""

import copy
import dataclasses
import functools
import math
import os
from collections.abc import Container, Generator, Iterator, Sequence
from typing import Any, Literal, Unpack, overload

import jax
import numpy as np
from PIL import Image

from pgjax import sharding
from pgjax.config.sections import AnsweringConfig
from pgjax.console import gib
from pgjax.data.loader import EvalLoader, Part
from pgjax.data.masks import paste_mask
from pgjax.data.sources import Source
from pgjax.decoding.generate import Generated
from pgjax.errors import UserError, note
from pgjax.inference.answer import Answer, next_piece, read_answer
from pgjax.inference.batch_size import largest_batch_size
from pgjax.inference.decoding_options import (
    DecodingOptions,
    GenerateKwargs,
    StreamKwargs,
    lists_options,
    read_options,
)
from pgjax.inference.detections import DetectedObject, Detections, scored_boxes
from pgjax.inference.generation import INPUTS, make_generate_fn, make_stream_fn
from pgjax.inference.images import ImageLike, PromptedImages, as_list
from pgjax.inference.lengths import compiled_length, trimmed
from pgjax.inference.mask_codec import open_codec
from pgjax.inference.preprocessing import PromptPreprocessor
from pgjax.inference.prompts import ANSWER_LENGTHS, with_verb
from pgjax.loading.model_context import Flat, ModelContext
from pgjax.models.quantized import Quantized

_MOST_ROWS = 64  # of a batch, however much memory there is


# In the overloads below, the first that matches counts: a text is one image or prompt, although it
# is a sequence of texts as well.


class Model:
    """A checkpoint on the devices, with all that it takes to prompt it.

    Attributes:
      context: the model on its mesh, its tokenizer and its config.
      params: the parameters by name, in the layout that decodes fastest.
      checkpoint: what was loaded, as it was given to `pgjax.load`.
    """

    def __init__(self, context: ModelContext, params: Flat, checkpoint: str = "") -> None:
        """Prepares to compile; that happens at the first prompts of each shape.

        Raises:
          UserError: the config does not say how prompts are prepared.
        """
        self.context, self.params = context, params
        self.checkpoint = checkpoint or context.config.init
        self._generate_fn = functools.cache(functools.partial(make_generate_fn, context))
        self._stream_fn = functools.cache(functools.partial(make_stream_fn, context))
        self._codec = functools.cache(lambda: open_codec(tiny=context.config.tokenizer == "tiny"))
        self._preprocessor = functools.cache(functools.partial(PromptPreprocessor, context))
        self._preprocessor()  # a checkpoint that cannot be prompted is reported now

    def prepared_by(self, answering: AnsweringConfig) -> "Model":
        """The same model, parameters and compiled programs with another preparation of examples.

        Args:
          answering: the pipelines, as in `config.answering`.

        Raises:
          UserError: a pipeline that cannot be parsed.
        """
        config = dataclasses.replace(self.context.config, answering=answering)
        other = copy.copy(self)
        other.context = dataclasses.replace(self.context, config=config)
        other._preprocessor = functools.cache(functools.partial(PromptPreprocessor, other.context))
        other._preprocessor()
        return other

    @property
    def res(self) -> int:
        """Height and width of the images that the model sees, in pixels."""
        return self.context.config.model.res

    def __repr__(self) -> str:
        model, mesh = self.context.model, self.context.mesh
        count = sum(math.prod(shape) for shape in self.context.shapes.values())
        leaves = jax.tree.leaves(self.params)
        own = sum(x.addressable_shards[0].data.nbytes for x in leaves)
        axes = ", ".join(f"{axis}={size}" for axis, size in mesh.shape.items())
        kind = mesh.devices.flat[0].device_kind
        parts = {
            "checkpoint": repr(self.checkpoint),
            "res": self.res,
            "parameters": f"{count:,}",
            "stored": _stored(self.params),
            "computes": f"{model.img_dtype} (image tower), {model.llm_dtype} (decoder)",
            "devices": f"{mesh.size} x {kind} ({axes})",
            "memory": f"{gib(own)} per device",
        }
        return "Model(" + "".join(f"\n  {k}: {v}" for k, v in parts.items()) + "\n)"

    @lists_options
    def generate_examples(
        self,
        source: Source,
        *,
        keep_picture: bool = False,
        done: Container[int] = (),
        on_bad_example: str = "raise",
        **options: Unpack[GenerateKwargs],
    ) -> Iterator[tuple[dict[str, Any], Answer]]:
        """Generates text for every example of a data source, batch by batch, in order.

        Args:
          source: examples with `image` and maybe `prefix`, such as `PromptedImages` or a JSONL.
          keep_picture: whether the decoded image comes along as `picture`, uint8 [H,W,3].
          done: indices of examples to leave out.
          on_bad_example: `raise`, or `skip`, which leaves bad examples out and says how many.
          **options: see `GenerateKwargs`.

        Returns:
          An iterator over (text keys of the example and its `index`, the answer).

        Raises:
          UserError: an option out of range, or, from the iterator, an unreadable example.
        """
        return self._examples(source, keep_picture, done, on_bad_example, self._chosen(options))

    def _examples(
        self,
        source: Source,
        keep_picture: bool,
        done: Container[int],
        on_bad_example: str,
        chosen: DecodingOptions,
    ) -> Iterator[tuple[dict[str, Any], Answer]]:
        left = sum(i not in done for i in range(len(source)))
        if not left:
            return
        preprocessor = self._preprocessor(keep_picture, chosen.orient)
        longest = max(map(chosen.longest, ANSWER_LENGTHS))
        if isinstance(source, PromptedImages):
            self._check_prompts(source.prompts)
            longest = max(map(chosen.longest, source.prompts))
        rows = self._rows(left, chosen.batch_size, compiled_length(longest))
        part = Part(source, preprocessor, name="predict")
        loader = EvalLoader(part, rows, done=done, on_bad_example=on_bad_example)
        count, cut = 0, 0
        for batch in loader:
            for meta, answer in self._answers(batch, chosen):
                count, cut = count + 1, cut + answer.truncated
                yield meta, answer
        if skipped := (report := loader.report())["skipped"] + report["dropped"]:
            note(f"{skipped} of {left} examples are left out: {' '.join(report['examples'])}")
        _tell_cut(cut, count)

    def _answers(
        self, batch: dict[str, Any], chosen: DecodingOptions
    ) -> Iterator[tuple[dict[str, Any], Answer]]:
        """Answers the examples of a batch; those with the same longest answer go together.

        So an answer does not depend on the prompts beside it.
        """
        inputs = self._inputs(batch)
        prompts = [meta.get("prefix") for meta in batch["meta"]]
        kinds = np.array([(chosen.longest(p), chosen.listed(p)) for p in prompts])
        answers: dict[int, Answer] = {}
        for length, objects in sorted(set(map(tuple, kinds[batch["_mask"]].tolist()))):
            own = batch["_mask"] & (kinds == (length, objects)).all(axis=1)
            program = self._generate_fn(chosen.program(compiled_length(length), objects))
            mask = sharding.to_device(self.context.mesh, {"_mask": own})
            out = program(self.params, {**inputs, **mask}, chosen.seed, limit=length)
            tokens, logprobs = map(np.asarray, out)
            for row in np.flatnonzero(own).tolist():
                answers[row] = read_answer(
                    self.context.tokenizer, tokens[row], logprobs[row], chosen.stop
                )
        for row in sorted(answers):
            yield batch["meta"][row], answers[row]

    def _check_prompts(self, prompts: Sequence[str | None]) -> None:
        if None in prompts and not self._preprocessor().has_prompt:
            raise UserError(
                "prompts is missing, and this checkpoint has no prompt of its own; expected text "
                "such as 'caption en' or 'answer en what is this?'."
            )

    @overload
    def generate(  # pyright: ignore[reportOverlappingOverload]
        self,
        images: ImageLike,
        prompts: str | None = None,
        *,
        return_answers: Literal[False] = False,
        **options: Unpack[GenerateKwargs],
    ) -> str: ...

    @overload
    def generate(  # pyright: ignore[reportOverlappingOverload]
        self,
        images: ImageLike,
        prompts: str | None = None,
        *,
        return_answers: Literal[True],
        **options: Unpack[GenerateKwargs],
    ) -> Answer: ...

    @overload
    def generate(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str] | None = None,
        *,
        return_answers: Literal[False] = False,
        **options: Unpack[GenerateKwargs],
    ) -> list[str]: ...

    @overload
    def generate(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str] | None = None,
        *,
        return_answers: Literal[True],
        **options: Unpack[GenerateKwargs],
    ) -> list[Answer]: ...

    @lists_options
    def generate(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str] | None = None,
        *,
        return_answers: bool = False,
        **options: Unpack[GenerateKwargs],
    ) -> str | Answer | list[str] | list[Answer]:
        """Generates text about images.

        Args:
          images: one image or a list: a path, encoded bytes, an open file, a data URL, a Pillow
            image, an array (NumPy, JAX, PyTorch) uint8 [H,W,3], or frames [F,H,W,3] where the model
            was trained on frames. Rows of a table with `image`, and maybe `prefix`, serve as well.
          prompts: one prompt or a list; where only one of images and prompts is a list, the other
            serves all of it. None for the prompt that the checkpoint was trained with.
          return_answers: whether `Answer`s with tokens and log-probabilities are returned instead
            of texts.
          **options: see `GenerateKwargs`.

        Returns:
          The text, or a list of texts where images or prompts are a list.

        Raises:
          UserError: lists of different lengths, an unreadable image, or an unknown option or value.
        """
        chosen = self._chosen(options)
        source, many = _paired(images, prompts, chosen)
        answers = [answer for _, answer in self._examples(source, False, (), "raise", chosen)]
        if return_answers:
            return answers if many else answers[0]
        texts = [answer.text for answer in answers]
        return texts if many else texts[0]

    @lists_options
    def stream(
        self, image: ImageLike, prompt: str | None = None, **options: Unpack[StreamKwargs]
    ) -> Generator[str, None, Answer]:
        """Generates text about one image, piece by piece.

            for piece in model.stream("bee.jpg", "caption en"):
                print(piece, end="", flush=True)

        Args:
          image: as for `generate`.
          prompt: as for `generate`.
          **options: see `StreamKwargs`.

        Returns:
          A generator of new text; all pieces together are what `generate` returns. What the
          generator returns, as in `answer = yield from model.stream(…)`, is the `Answer`.

        Raises:
          UserError: an unreadable image, an unknown option or value, or a sampler that does not
            choose token by token.
        """
        chosen = self._chosen(options)
        if as_list(image) is not None or as_list(prompt) is not None:
            raise UserError("stream() takes one image and one prompt; generate() takes lists.")
        source, _ = _paired(image, prompt, chosen)
        self._check_prompts(source.prompts)
        part = Part(source, self._preprocessor(False, chosen.orient), name="stream")
        batch = next(iter(EvalLoader(part, self._rows(1, 1, 1))))
        prompt = batch["meta"][0].get("prefix")
        length = chosen.longest(prompt)
        program = self._stream_fn(chosen.program(compiled_length(length), chosen.listed(prompt)))
        return self._pieces(
            program(self.params, self._inputs(batch), chosen.seed, limit=length), chosen
        )

    def _pieces(
        self, outputs: Iterator[Generated], chosen: DecodingOptions
    ) -> Generator[str, None, Answer]:
        told, answer = "", None
        for out in outputs:
            tokens, logprobs = (np.asarray(x[0]) for x in out)
            answer = read_answer(self.context.tokenizer, tokens, logprobs, chosen.stop)
            if answer.ended:
                break
            if piece := next_piece(answer, chosen.stop, told):
                yield piece
                told += piece
        assert answer is not None  # there is at least one token
        yield answer.text[len(told) :]
        _tell_cut(int(answer.truncated), 1)
        return answer

    @overload
    def detect(  # pyright: ignore[reportOverlappingOverload]
        self, images: ImageLike, prompts: str, **options: Unpack[GenerateKwargs]
    ) -> Detections: ...

    @overload
    def detect(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str],
        **options: Unpack[GenerateKwargs],
    ) -> list[Detections]: ...

    @lists_options
    def detect(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str],
        **options: Unpack[GenerateKwargs],
    ) -> Detections | list[Detections]:
        """Finds objects with their boxes, such as `model.detect("bee.jpg", "bee ; flower")`.

        Args:
          images: as for `generate`.
          prompts: what to look for, with ` ; ` between several things; `detect ` is put in front.
          **options: see `GenerateKwargs`.

        Returns:
          The objects in the image, or a list of such where images or prompts are a list.

        Raises:
          UserError: as for `generate`.
        """
        return self._find("detect", images, prompts, options)

    @overload
    def segment(  # pyright: ignore[reportOverlappingOverload]
        self, images: ImageLike, prompts: str, **options: Unpack[GenerateKwargs]
    ) -> Detections: ...

    @overload
    def segment(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str],
        **options: Unpack[GenerateKwargs],
    ) -> list[Detections]: ...

    @lists_options
    def segment(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str],
        **options: Unpack[GenerateKwargs],
    ) -> Detections | list[Detections]:
        """Finds objects with their boxes and masks, such as `model.segment("bee.jpg", "bee")`.

        Args:
          images: as for `generate`.
          prompts: what to look for, with ` ; ` between several things; `segment ` is put in front.
          **options: see `GenerateKwargs`.

        Returns:
          The objects in the image, or a list of such where images or prompts are a list.

        Raises:
          UserError: as for `generate`, or the weights that decode masks are not found.
        """
        return self._find("segment", images, prompts, options)

    def read_detections(
        self,
        answer: Answer,
        size: tuple[int, int],
        *,
        masks: bool,
        image: ImageLike | None = None,
        objects: int | None = None,
    ) -> Detections:
        """Reads the objects that an answer names; one that was cut off is left out.

        Args:
          answer: to a prompt that starts with `detect` or `segment`.
          size: height and width of the image in pixels.
          masks: whether masks are decoded; objects without one are then left out.
          image: the image, for drawing.
          objects: the option that the answer was generated with.

        Raises:
          UserError: the weights that decode masks are not found.
        """
        objects = self.context.config.answering.objects if objects is None else objects
        found = []
        for thing, score in scored_boxes(
            self.context.tokenizer,
            answer.tokens,
            answer.logprobs,
            ended=answer.ended,
            by_label=objects > 0 and not masks,
        ):
            edges = thing[:4]
            y0, x0, y1, x1 = (v * side for v, side in zip(edges, size * 2, strict=True))
            mask = None
            if masks:
                if not thing.codes:
                    continue
                mask = paste_mask(self._codec().decode(thing.codes), edges, size)
            found.append(DetectedObject(thing.label, (y0, x0, y1, x1), score, mask))
        return Detections(found, size, image)

    def _find(
        self,
        verb: Literal["detect", "segment"],
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str],
        options: GenerateKwargs,
    ) -> Detections | list[Detections]:
        chosen = self._chosen(options)
        source, many = _paired(images, prompts, chosen)
        if None in source.prompts:
            raise UserError(f"prompts is missing, expected what to {verb}, such as 'bee ; flower'.")
        source.prompts = [p and with_verb(verb, p) for p in source.prompts]
        turns = self._preprocessor(False, chosen.orient).turns
        found = []
        for meta, answer in self._examples(source, True, (), "raise", chosen):
            image, picture = source.images[meta["index"]], meta["picture"]
            read_again = isinstance(image, str | os.PathLike | Image.Image) and not turns
            found.append(
                self.read_detections(
                    answer,
                    picture.shape[-3:-1],
                    masks=verb == "segment",
                    image=image if read_again and not str(image).startswith("http") else picture,
                    objects=chosen.objects,
                )
            )
        return found if many else found[0]

    def _chosen(self, options: GenerateKwargs | StreamKwargs) -> DecodingOptions:
        """The options of decoding, with what the checkpoint was tuned for."""
        chosen = read_options(options)
        if chosen.objects is None:
            objects = self.context.config.answering.objects
            chosen = dataclasses.replace(chosen, objects=objects)
        return chosen

    def _inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The model's inputs on the devices, without columns that are padding in all rows."""
        width = compiled_length(int(batch["mask_input"].sum(axis=1).max()))
        return sharding.to_device(self.context.mesh, trimmed({k: batch[k] for k in INPUTS}, width))

    def _rows(self, count: int, batch_size: int, length: int) -> int:
        """The size of batches: a power of two where the caller leaves it open.

        So few shapes are compiled. It is rounded up to a multiple of the mesh's `data` axis.
        """
        most = batch_size or min(_MOST_ROWS, largest_batch_size(self.context, length))
        rows = min(1 << (count - 1).bit_length(), most)
        each = self.context.mesh.shape["data"]
        return -(-rows // each) * each


def _tell_cut(cut: int, count: int) -> None:
    if cut:
        note(
            f"{cut} of {count} answers did not end within max_new_tokens and were cut off there; "
            "Answer.ended says which."
        )


def _paired(images: Any, prompts: Any, chosen: DecodingOptions) -> tuple[PromptedImages, bool]:
    """Pairs images with prompts, and says whether either was a list."""
    several, texts = as_list(images), as_list(prompts)
    if several is not None and texts is not None and len(several) != len(texts):
        raise UserError(
            f"got {len(several)} images and {len(texts)} prompts, expected as many of each, or "
            "only one of either."
        )
    count = next((len(x) for x in (several, texts) if x is not None), 1)
    source = PromptedImages(
        [images] * count if several is None else several,
        [prompts] * count if texts is None else texts,
        allow_urls=chosen.allow_urls,
        orient=bool(chosen.orient),
    )
    return source, several is not None or texts is not None


def _stored(params: Flat) -> str:
    """Dtypes and kinds of quantization, from the one that takes most memory to the least."""
    sizes: dict[str, int] = {}
    for x in jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, Quantized)):
        name = type(x).__name__.lower() if isinstance(x, Quantized) else str(x.dtype)
        sizes[name] = sizes.get(name, 0) + x.nbytes
    whole = sum(sizes.values())
    order = sorted(sizes, key=lambda name: -sizes[name])
    return ", ".join(f"{name} ({sizes[name] / whole:.0%})" for name in order)
