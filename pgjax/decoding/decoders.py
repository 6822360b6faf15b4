"""Ways of decoding, as config files and users write them: `greedy`, `nucleus(0.9)`, `beam(4)`."""

import functools
from collections.abc import Callable

from pgjax.decoding import samplers
from pgjax.decoding.generate import Generated, generate
from pgjax.decoding.samplers import Sampler
from pgjax.decoding.search import beam_search, best_of
from pgjax.errors import UserError

# (prefill, extend, take, rules, max_new_tokens=T) -> Generated
Decoder = Callable[..., Generated]

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "greedy": lambda: samplers.greedy,
    "temperature": samplers.temperature,
    "top_k": samplers.top_k,
    "nucleus": samplers.nucleus,
}
SEARCHES = ("beam", "best_of")


def make_sampler(text: str) -> Sampler:
    """Builds a sampler from `greedy`, `temperature(0.7)`, `top_k(40)` or `nucleus(0.9, 0.7)`.

    Raises:
      UserError: unknown name or bad argument.
    """
    name, args = _parse(text)
    if name not in SAMPLERS:
        raise UserError(f"sampler {text!r} does not choose token by token; use {list(SAMPLERS)}.")
    try:
        return SAMPLERS[name](*args)
    except TypeError:
        raise UserError(f"sampler {text!r}: its arguments must be numbers it takes.") from None


def make_decoder(text: str) -> Decoder:
    """Builds a decoder from a sampler's text, `beam(4)`, or `best_of(8, 0.7)` (n, temperature).

    Raises:
      UserError: unknown name or bad argument.
    """
    name, args = _parse(text)
    if name not in SEARCHES:
        sampler = make_sampler(text)

        def sample(prefill, extend, take, rules, *, max_new_tokens):
            del take  # rows stay where they are
            options = {"sampler": sampler, "max_new_tokens": max_new_tokens}
            return generate(prefill, extend, rules, **options)

        return sample
    most = 1 if name == "beam" else 2
    if not 1 <= len(args) <= most or args[0] < 1 or args[0] != int(args[0]):
        raise UserError(f"sampler {text!r}: expected {name}(n) with a whole number n from 1.")
    if name == "beam":
        return functools.partial(beam_search, beams=int(args[0]))
    return functools.partial(best_of, n=int(args[0]), sampler=samplers.temperature(*args[1:]))


def _parse(text: str) -> tuple[str, list[float]]:
    name, opened, rest = text.partition("(")
    if name not in (*SAMPLERS, *SEARCHES) or bool(opened) != rest.endswith(")"):
        known = [*SAMPLERS, *SEARCHES]
        raise UserError(f"sampler {text!r} is unknown; choose from {known}.")
    try:
        return name, [float(x) for x in rest[:-1].split(",") if x.strip()]
    except ValueError:
        raise UserError(f"sampler {text!r}: its arguments must be numbers it takes.") from None
