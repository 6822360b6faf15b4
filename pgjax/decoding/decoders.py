"""Ways of decoding, as configs and flags name them: `greedy`, `nucleus(0.9)`, `beam(4)`.

`SAMPLERS` holds a function by each name, which takes the numbers in parentheses and returns either
a `Sampler`, which chooses token by token, or a `Search`, which follows several continuations.
"""

import functools
import inspect
import math
from collections.abc import Callable
from typing import NamedTuple

from pgjax.decoding import samplers
from pgjax.decoding.generate import Generated, generate
from pgjax.decoding.samplers import Sampler
from pgjax.decoding.search import beam_search, best_of
from pgjax.errors import UserError
from pgjax.registry import SAMPLERS

# (prefill, extend, take, rules, *, max_new_tokens) -> Generated; see `pgjax.decoding.search`.
Decoder = Callable[..., Generated]

MOST = 1024  # hypotheses or draws of one answer


class Search(NamedTuple):
    """A way of decoding that does not choose token by token."""

    decode: Decoder


@SAMPLERS.register("greedy")
def _greedy() -> Sampler:
    return samplers.greedy


SAMPLERS.register("temperature")(samplers.temperature)
SAMPLERS.register("top_k")(samplers.top_k)
SAMPLERS.register("nucleus")(samplers.nucleus)


@SAMPLERS.register("beam")
def _beam(beams: float) -> Search:
    """Beam search with so many hypotheses."""
    return Search(functools.partial(beam_search, beams=_whole(beams)))


@SAMPLERS.register("best_of")
def _best_of(n: float, value: float = 1.0) -> Search:
    """The most probable of n samples, which are drawn at a temperature."""
    sampler = samplers.temperature(value)
    return Search(functools.partial(best_of, n=_whole(n), sampler=sampler))


def make_sampler(text: str) -> Sampler:
    """Builds a sampler from its text, such as `greedy`, `temperature(0.7)` or `top_k(40)`.

    Raises:
      UserError: an unknown name, a wrong argument, or a search.
    """
    made = _make(text)
    if isinstance(made, Search):
        raise UserError(
            f"sampler {text!r} does not choose token by token; expected one that does, such as "
            "greedy or temperature(0.7)."
        )
    return made


def make_decoder(text: str) -> Decoder:
    """Builds a decoder from a sampler's text, `beam(4)`, or `best_of(8, 0.7)` (n, temperature).

    Raises:
      UserError: an unknown name or a wrong argument.
    """
    made = _make(text)
    if isinstance(made, Search):
        return made.decode

    def sample(prefill, extend, take, rules, *, max_new_tokens: int) -> Generated:
        del take  # rows stay where they are
        return generate(prefill, extend, rules, sampler=made, max_new_tokens=max_new_tokens)

    return sample


def _make(text: str) -> Sampler | Search:
    name, opened, rest = text.partition("(")
    factory = SAMPLERS.find(name, f"sampler {text!r}")
    if bool(opened) != rest.endswith(")"):
        raise UserError(f"sampler {text!r} lacks a parenthesis, expected {_usage(name)}.")
    try:
        numbers = [float(x) for x in rest[:-1].split(",") if x.strip()]
        inspect.signature(factory).bind(*numbers)
        if not all(map(math.isfinite, numbers)):
            raise ValueError
    except (ValueError, TypeError):
        raise UserError(
            f"sampler {text!r}: expected {_usage(name)} with finite numbers as arguments."
        ) from None
    try:
        return factory(*numbers)
    except UserError as e:
        message = str(e).removeprefix("sampler ")
        raise UserError(f"sampler {text!r}: {message}") from None


def _usage(name: str) -> str:
    """How a sampler is written: `top_k(k, value=1.0)`."""
    parameters = inspect.signature(SAMPLERS[name]).parameters.values()
    plain = [p.replace(annotation=p.empty) for p in parameters]
    return f"{name}{inspect.Signature(plain)}"


def _whole(n: float) -> int:
    if not 1 <= n <= MOST or n != int(n):
        raise UserError(f"n is {n:g}, expected a whole number from 1 to {MOST}.")
    return int(n)
