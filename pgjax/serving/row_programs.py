"""Compiled programs over one cache, whose rows are given to requests and taken back.

The columns of the cache are those of image and prompt, then a ring for the tokens of answers. All
rows write their next token into the same column of the ring, so that a token is one update in
place, whatever its row's length: attention asks where a key may be seen, its position is in the
key. A row has ended before the ring comes round to its first token.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from pgjax import sharding
from pgjax.decoding.continuous import Chosen, Rows, advance_rows, choose
from pgjax.errors import UserError
from pgjax.inference.generation import INPUTS, extend_of, prefill_of
from pgjax.inference.lengths import LENGTHS, compiled_length, trimmed
from pgjax.inference.model import Model
from pgjax.loading.compiler_options import compiler_options
from pgjax.loading.model_context import Flat
from pgjax.models.paligemma import Cache

STEPS = 4  # tokens between two occasions to join, leave, or be told
_GROWTH = 2  # of the number of rows from one compiled program to the next

Inputs = Mapping[str, np.ndarray]  # of one row: image, text, mask_ar, mask_input


class RowPrograms:
    """The programs of a model: `join` reads prompts into rows, `go_on` continues rows.

    Attributes:
      rows: of the cache.
      longest_prompt: in tokens of text, with bos and newline.
      longest_answer: in tokens.
    """

    def __init__(
        self, model: Model, example: Inputs, rows: int, longest_prompt: int, longest_answer: int
    ) -> None:
        """Prepares to compile; that happens at the first call of each shape.

        Args:
          model: on one device, or on several that share each row's work.
          example: of any prompt, for the shapes.
          rows: of the cache.
          longest_prompt: in tokens of text; not more than the example's text has.
          longest_answer: in tokens.

        Raises:
          UserError: the mesh splits batches.
        """
        if (parts := model.context.mesh.shape["data"]) > 1:
            raise UserError(
                f"The model's mesh splits batches over {parts} devices, but one request at a time "
                'joins; expected mesh={"data": 1, "model": -1}.'
            )
        self.rows, self.longest_prompt, self.longest_answer = rows, longest_prompt, longest_answer
        self._model, self._context = model, model.context
        self._eos = model.context.tokenizer.eos_id
        self._cache = self._abstract_cache(example)
        whole = sharding.replicated(self._context.mesh)
        places = jax.tree.map(self._place, self._cache)
        compiled = {"donate_argnums": 1, "compiler_options": compiler_options()}
        self._join = jax.jit(self._joined, out_shardings=(places, whole), **compiled)
        self._go_on = jax.jit(self._gone_on, out_shardings=(places, whole), **compiled)
        self._empty = jax.jit(self._emptied, out_shardings=places)

    def sizes(self) -> list[int]:
        """The numbers of rows, from the first, that `go_on` is compiled for."""
        found = [1]
        while found[-1] < self.rows:
            found.append(min(self.rows, found[-1] * _GROWTH))
        return found

    def widths(self) -> list[int]:
        """The lengths of prompts that `join` is compiled for."""
        return sorted({self.width(n) for n in LENGTHS})

    def width(self, tokens: int) -> int:
        """The length that a prompt is padded to."""
        return min(compiled_length(tokens), self.longest_prompt)

    def empty(self) -> Cache:
        """A cache in which no row is used."""
        return self._empty()

    def join(
        self, cache: Cache, inputs: Sequence[Inputs], slots: Sequence[int], rows: Rows
    ) -> tuple[Cache, Chosen]:
        """Reads prompts into rows of the cache, and chooses their first tokens.

        Args:
          cache: which is used up.
          inputs: of M prompts, whose texts have the same width.
          slots: the row of each.
          rows: [M], of length 0.

        Returns:
          The cache, and the tokens [M,1].
        """
        batch = {k: np.stack([one[k] for one in inputs]) for k in INPUTS[:4]}
        with self._context.traced():
            slot = np.asarray(slots, np.int32)
            return self._join(self._model.params, cache, batch, slot, rows)

    def go_on(self, cache: Cache, rows: Rows) -> tuple[Cache, Chosen]:
        """Continues the first N rows of the cache, where N is one of `sizes`.

        Args:
          cache: which is used up.
          rows: [N].

        Returns:
          The cache, and the tokens [N,`STEPS`].
        """
        with self._context.traced():
            return self._go_on(self._model.params, cache, rows)

    @property
    def image_tokens(self) -> int:
        """Columns of an image."""
        return self._ring - self.longest_prompt

    @property
    def _ring(self) -> int:
        """The first column of the ring."""
        return self._cache.valid.shape[1] - self.longest_answer

    def _emptied(self) -> Cache:
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._cache)
        return dataclasses.replace(blank, column=jnp.int32(self._ring))

    def _joined(self, params: Flat, cache: Cache, batch: Any, slots: jax.Array, rows: Rows):
        logits, own = prefill_of(self._context, params, batch, 0)()
        for i in range(slots.shape[0]):
            cache = cache.put(own.part(i, 1), slots[i])
        return cache, choose(logits, rows)

    def _gone_on(self, params: Flat, cache: Cache, rows: Rows):
        count = rows.token.shape[0]
        one_token = extend_of(self._context, params)

        def extend(token: jax.Array, part: Cache) -> tuple[jax.Array, Cache]:
            logits, part = one_token(token, part)
            end = part.column == part.valid.shape[1]
            column = jnp.where(end, self._ring, part.column)
            return logits, dataclasses.replace(part, column=column)

        # What is continued is cut out only where it is not everything, since that copies it.
        part = cache if count == self.rows else cache.part(0, count)
        part, chosen = advance_rows(extend, rows, part, steps=STEPS, eos_id=self._eos)
        whole = part if count == self.rows else cache.put(part, 0)
        return dataclasses.replace(whole, column=part.column), chosen

    def _abstract_cache(self, example: Inputs) -> Cache:
        """The shapes of the cache, as one row's prefill makes them."""
        example = trimmed(example, self.longest_prompt)
        batch = {k: example[k][None] for k in INPUTS[:4]}

        def prefill(params: Flat, batch: Any) -> Cache:
            return prefill_of(self._context, params, batch, self.longest_answer)()[1]

        with self._context.traced():
            one = jax.eval_shape(prefill, self._model.params, batch)

        def rows(x: Any, axis: int) -> Any:
            shape = (*x.shape[:axis], self.rows, *x.shape[axis + 1 :])
            return jax.ShapeDtypeStruct(shape, x.dtype)

        layers = jax.tree.map(lambda x: rows(x, x.ndim - 4), one.layers)
        return Cache(layers, rows(one.valid, 0), rows(one.length, 0), one.column)

    def _place(self, x: jax.ShapeDtypeStruct) -> NamedSharding:
        """Keys and values lie where the heads are, all else on every device."""
        axes: list[str | None] = [None] * len(x.shape)
        if len(x.shape) >= 4:
            axes[-2] = "kv_heads"
        mesh = self._context.mesh
        return NamedSharding(mesh, sharding.activation_spec(mesh, x.shape, axes))
