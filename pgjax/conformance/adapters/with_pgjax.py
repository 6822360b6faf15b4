"""pgjax itself, by the functions that its training and `pgjax.load` stand on."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pgjax import trees
from pgjax.checkpoints.npz import read_npz
from pgjax.conformance.adapter import Adapter, DetectedBox, Example
from pgjax.conformance.tiny_models import ModelFiles
from pgjax.inference.decoding_options import ProgramOptions
from pgjax.inference.generation import make_generate_fn
from pgjax.inference.load import load
from pgjax.inference.mask_codec import MaskCodec
from pgjax.models.gemma import Gemma
from pgjax.models.loss import make_loss
from pgjax.text.compose import TextArrays, TokenSequence, pack_answering, pack_training, sequence
from pgjax.text.locations import parse_boxes

_LENGTH = 31  # tokens of a training example, so that few shapes are compiled


class PgjaxAdapter(Adapter):
    """pgjax, with float32 products of full precision."""

    packages = ("jax", "flax")

    def __init__(self, files: ModelFiles) -> None:
        """Loads the `.npz`."""
        self._loaded = load(files.npz, tokenizer=str(files.tokenizer))
        self._context, self._model = self._loaded.context, self._loaded.context.model
        self._flat = {name: jnp.asarray(x) for name, x in read_npz(files.npz).items()}
        self._pipeline = self._context.pipeline(self._context.config.answering.image)
        self._mask_decoder = files.mask_decoder

    def tokens(self, prefix: str, suffix: str) -> tuple[list[int], list[int]]:
        """As training has them."""
        return sequence(self._context.tokenizer, prefix, suffix, eos=True)

    def image(self, picture: np.ndarray) -> np.ndarray:
        """By the pipeline of a loaded checkpoint."""
        return self._pipeline({"image": picture})["image"]

    def mask(self, example: Example, length: int) -> np.ndarray:
        """What the decoder is called with."""
        return np.asarray(self._mask(self._flat, example.pixels, self._text(example, length)))[0]

    @functools.cached_property
    def _mask(self) -> Any:
        seen: list[Any] = []

        def spy(call, args, kwargs, context):
            if isinstance(context.module, Gemma) and context.method_name == "__call__":
                seen.append(args[2])
            return call(*args, **kwargs)

        @jax.jit
        def run(flat, pixels, arrays):
            with nn.intercept_methods(spy):
                self._hidden(flat, pixels, arrays)
            return seen.pop()

        return run

    def image_tokens(self, pixels: np.ndarray) -> np.ndarray:
        """By the image tower and its head."""
        with jax.default_matmul_precision("highest"):
            tokens: Any = self._model.apply(
                {"params": trees.unflatten(self._flat)}, pixels[None], method="embed_image"
            )
        return np.asarray(tokens)[0]

    def logits(self, example: Example) -> np.ndarray:
        """Of all positions, which training computes for the supervised ones alone."""
        length = len(example.prompt) + len(example.answer)
        arrays = self._text(example, _LENGTH)
        with jax.default_matmul_precision("highest"):
            return np.asarray(self._logits(self._flat, example.pixels, arrays))[0, :length]

    @functools.cached_property
    def _logits(self) -> Any:
        @jax.jit
        def run(flat, pixels, arrays):
            hidden = self._hidden(flat, pixels, arrays)
            variables = {"params": trees.unflatten(flat)}
            return self._model.apply(variables, hidden, method="logits")

        return run

    def loss(self, examples: Sequence[Example]) -> float:
        """As a training step computes it."""
        with jax.default_matmul_precision("highest"):
            return float(self._loss(self._flat, *self._batch(examples)))

    def gradient(self, example: Example, name: str) -> np.ndarray:
        """By the loss's own backward pass."""
        with jax.default_matmul_precision("highest"):
            return np.asarray(self._gradients(self._flat, *self._batch([example]))[name])

    def answers(
        self, examples: Sequence[Example], beams: int, max_new_tokens: int
    ) -> list[list[int]]:
        """By the program that `Model.generate` compiles."""
        sampler = "greedy" if beams == 1 else f"beam({beams})"
        options = ProgramOptions(sampler=sampler, max_new_tokens=max_new_tokens)
        generate = make_generate_fn(self._context, options)
        width = max(len(x.prompt) for x in examples)
        texts = [pack_answering(TokenSequence(x.prompt, []), width) for x in examples]
        batch = {key: np.stack([text[key] for text in texts]) for key in texts[0]}
        batch["image"] = np.stack([x.pixels for x in examples])
        batch["_mask"] = np.ones(len(examples), bool)
        batch["_index"] = np.arange(len(examples), dtype=np.int32)
        return np.asarray(generate(self._loaded.params, batch, 0).tokens).tolist()

    def boxes(self, text: str, height: int, width: int) -> Sequence[DetectedBox]:
        """As `Model.detect` reads them."""
        found = parse_boxes(text)
        return [
            (x.label, (x.y0 * height, x.x0 * width, x.y1 * height, x.x1 * width)) for x in found
        ]

    def decoded_mask(self, codes: Sequence[int]) -> np.ndarray:
        """By the codec that `Model.segment` has."""
        with np.load(self._mask_decoder) as arrays:
            return MaskCodec(dict(arrays)).decode(codes)

    def _text(self, example: Example, length: int) -> TextArrays:
        """The text arrays of a training example, or of a prompt where there is no answer."""
        tokens = TokenSequence(example.prompt, example.answer)
        return (
            pack_training(tokens, length - 1) if tokens.suffix else pack_answering(tokens, length)
        )

    def _hidden(self, flat: Any, pixels: Any, arrays: TextArrays) -> Any:
        inputs = [pixels, arrays["text"], arrays["mask_ar"]]
        inputs += [arrays["mask_input"]] if "mask_input" in arrays else []
        variables = {"params": trees.unflatten(flat)}
        return self._model.apply(variables, *(jnp.asarray(x)[None] for x in inputs))

    def _batch(self, examples: Sequence[Example]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        texts = [self._text(x, _LENGTH) for x in examples]
        batch = {key: np.stack([text[key] for text in texts]) for key in texts[0]}
        batch["image"] = np.stack([x.pixels for x in examples])
        return batch, np.full(len(examples), 1 / len(examples), np.float32)

    @functools.cached_property
    def _loss(self) -> Any:
        return jax.jit(self._scalar_loss)

    @functools.cached_property
    def _gradients(self) -> Any:
        return jax.jit(jax.grad(self._scalar_loss))

    def _scalar_loss(self, flat: Any, batch: Any, weight: Any) -> jax.Array:
        loss = make_loss(self._model, label_smoothing=0.0, chunk=8)
        return loss(flat, {}, batch, weight, None)[0]
