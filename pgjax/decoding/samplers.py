"""How the next token is chosen from its logits."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgjax.errors import UserError

Sampler = Callable[[jax.Array, jax.Array], jax.Array]  # (key, float32 [B,V]) -> int32 [B]


def greedy(key: jax.Array, logits: jax.Array) -> jax.Array:
    """The most probable token; the key is not used."""
    del key
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def temperature(value: float = 1.0) -> Sampler:
    """A draw from softmax(logits / value)."""
    if not value > 0:  # also nan
        raise UserError(f"sampler temperature({value}): the temperature must be positive.")

    def sample(key: jax.Array, logits: jax.Array) -> jax.Array:
        return jax.random.categorical(key, logits / value, axis=-1).astype(jnp.int32)

    return sample


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "greedy": lambda: greedy,
    "temperature": temperature,
}


def make_sampler(text: str) -> Sampler:
    """Builds a sampler from `greedy` or `temperature(0.7)`.

    Raises:
      UserError: unknown name or bad argument.
    """
    name, opened, rest = text.partition("(")
    if name not in SAMPLERS or bool(opened) != rest.endswith(")"):
        raise UserError(f"sampler {text!r} is unknown; choose from {list(SAMPLERS)}.")
    try:
        return SAMPLERS[name](*(float(x) for x in rest[:-1].split(",") if x.strip()))
    except (ValueError, TypeError):
        raise UserError(f"sampler {text!r}: its arguments must be numbers it takes.") from None
