"""The tokens that may come next in a list of a given number of boxes with labels."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int8, Int32

# Kinds of tokens. A label has at least one token of `LABEL`, and may have `BLANK` ones.
NEVER, LOCATION, LABEL, BLANK, SEMICOLON, END = range(6)


class BoxList(NamedTuple):
    """How an answer is written that lists exactly `number` boxes, four locations and a label each.

    Attributes:
      number: int32 scalar, 1 or more.
      kinds: int8 [V], the kind of each token.
      gap: int32 [K], the tokens between a semicolon and the next box.
    """

    number: Int32[jax.Array, ""]
    kinds: Int8[jax.Array, " v"]
    gap: Int32[jax.Array, " k"]

    def allowed(
        self, tokens: Int32[jax.Array, "b t"], length: Int32[jax.Array, ""]
    ) -> Bool[jax.Array, "b v"]:
        """Returns which tokens may come after the first `length` tokens of each row, bool [B,V].

        After every fourth location comes a label, then a semicolon and the next box, or after
        the last label the end, which may not come earlier.
        """
        place = jnp.arange(tokens.shape[1], dtype=jnp.int32)[None]
        kinds = jnp.where(place < length, self.kinds[tokens], jnp.int8(NEVER))
        is_location = kinds == LOCATION
        locations = is_location.sum(axis=1, dtype=jnp.int32)
        last = jnp.where(is_location, place, -1).max(axis=1, keepdims=True)
        named = ((kinds == LABEL) & (place > last)).any(axis=1)
        semicolon = (kinds == SEMICOLON) & (place > last)
        # How many tokens there have been since the semicolon, and with it; 0 before it comes.
        gone = jnp.where(semicolon, length - place, 0).max(axis=1)

        complete = (locations > 0) & (locations % 4 == 0) & (gone == 0)
        full = locations >= 4 * self.number
        may = jnp.zeros((tokens.shape[0], 6), bool)
        may = may.at[:, LOCATION].set(~complete & ((gone == 0) | (gone > self.gap.size)))
        may = may.at[:, LABEL].set(complete).at[:, BLANK].set(complete)
        may = may.at[:, SEMICOLON].set(complete & named & ~full)
        may = may.at[:, END].set(complete & named & full)
        allowed = may[:, self.kinds]
        if self.gap.size:
            in_gap = (gone > 0) & (gone <= self.gap.size)
            forced = self.gap[jnp.clip(gone - 1, 0, self.gap.size - 1)]
            every = jnp.arange(self.kinds.size, dtype=jnp.int32)[None]
            allowed |= in_gap[:, None] & (every == forced[:, None])
        return allowed
