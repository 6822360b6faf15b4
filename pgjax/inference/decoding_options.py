"""The options of decoding that every method of `Model` takes, defined and documented once."""

import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict, TypeVar

import numpy as np

from pgjax.errors import UserError
from pgjax.inference.call_checks import checks_call
from pgjax.inference.prompts import ANSWER_LENGTH, ANSWER_LENGTHS, answer_length
from pgjax.models.variants import float_dtype

F = TypeVar("F", bound=Callable[..., Any])

Texts = str | Sequence[str]
_WIDTH = 100  # columns of documentation
_MOST_SEED = 2**31 - 1  # seeds enter compiled programs as int32


class StreamKwargs(TypedDict, total=False):
    """Keyword arguments for decoding one prompt; each is described beside its type."""

    max_new_tokens: Annotated[
        int | None,
        f"longest answer in tokens, eos included; None for {ANSWER_LENGTH}, and for room for ten "
        f"objects in answers to `detect` ({ANSWER_LENGTHS['detect']}) and `segment` "
        f"({ANSWER_LENGTHS['segment']}).",
    ]
    sampler: Annotated[
        str,
        "`greedy`, `temperature(0.7)`, `top_k(40, 0.7)` or `nucleus(0.9, 0.7)`; where nothing is "
        "streamed also `beam(4)` or `best_of(8, 0.7)`.",
    ]
    seed: Annotated[int, "of the sampler; an answer depends on it and on the place in the list."]
    stop: Annotated[Texts, "texts that end an answer where they first appear, and are left out."]
    allowed: Annotated[Texts | None, "words whose tokens alone may be chosen; None for all."]
    forbidden: Annotated[Texts, "words whose tokens may not be chosen."]
    objects: Annotated[
        int | None,
        "number of objects that answers to `detect` list, whatever their scores; 0 for as many as "
        "the model finds, None for what the checkpoint was tuned with.",
    ]
    cache_dtype: Annotated[
        str | None,
        "dtype of the cached keys and values: float32, bfloat16 or float16; None for the dtype "
        "that the decoder computes in.",
    ]
    orient: Annotated[
        bool | None,
        "whether images are turned as their EXIF orientation says, which boxes then follow. None "
        "for no, as in training, with a note where a file has one.",
    ]
    allow_urls: Annotated[bool, "whether images are downloaded from http(s) addresses."]


class GenerateKwargs(StreamKwargs, total=False):
    """Keyword arguments for decoding a list of prompts."""

    batch_size: Annotated[int, "examples decoded together; 0 for as many as fit into memory."]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _TokenOptions:
    """How tokens are chosen; see `StreamKwargs`."""

    sampler: str = "greedy"
    stop: tuple[str, ...] = ()
    allowed: tuple[str, ...] | None = None
    forbidden: tuple[str, ...] = ()
    cache_dtype: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.sampler, str):
            raise UserError(f"sampler is {self.sampler!r}, expected a text such as 'greedy'.")
        if self.cache_dtype is not None:
            float_dtype(self.cache_dtype, "cache_dtype")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramOptions(_TokenOptions):
    """What a compiled decoding program depends on; see `StreamKwargs`.

    Raises:
      UserError: a value of the wrong type, or out of range.
    """

    max_new_tokens: int = ANSWER_LENGTH
    objects: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_int("max_new_tokens", self.max_new_tokens, 1)
        _check_int("objects", self.objects, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingOptions(_TokenOptions):
    """All options of decoding, checked, with their defaults; see `GenerateKwargs`."""

    max_new_tokens: int | None = None
    objects: int | None = None
    seed: int = 0
    batch_size: int = 0
    orient: bool | None = None
    allow_urls: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_new_tokens is not None:
            _check_int("max_new_tokens", self.max_new_tokens, 1)
        if self.objects is not None:
            _check_int("objects", self.objects, 0)
        for name, value in (("orient", self.orient), ("allow_urls", self.allow_urls)):
            if not isinstance(value, bool) and not (name == "orient" and value is None):
                raise UserError(f"{name} is {value!r}, expected True or False.")
        _check_int("seed", self.seed, 0, _MOST_SEED)
        _check_int("batch_size", self.batch_size, 0)

    def program(self, max_new_tokens: int, objects: int = 0) -> ProgramOptions:
        """The options of the program that generates up to `max_new_tokens`."""
        names = [field.name for field in dataclasses.fields(_TokenOptions)]
        same = {name: getattr(self, name) for name in names}
        return ProgramOptions(max_new_tokens=max_new_tokens, objects=objects, **same)

    def listed(self, prompt: str | None) -> int:
        """How many objects an answer to a prompt lists; 0 for any number."""
        return (self.objects or 0) if (prompt or "").startswith("detect") else 0

    def longest(self, prompt: str | None) -> int:
        """The longest answer to a prompt, in tokens."""
        return self.max_new_tokens or answer_length(prompt, self.listed(prompt))


def read_options(options: GenerateKwargs | StreamKwargs) -> DecodingOptions:
    """Checks keyword arguments and fills in the defaults.

    Raises:
      UserError: a value of the wrong type or out of range.
    """
    values: dict[str, Any] = dict(options)
    for name in ("stop", "allowed", "forbidden"):
        if values.get(name) is not None:
            values[name] = _texts(name, values[name])
    return DecodingOptions(**values)


def lists_options(method: F) -> F:
    """A decorator that lists the decoding options in what `help` and `inspect.signature` show.

    Calls with other arguments are refused in one sentence, see `checks_call`.

    The method's last parameter is `**options: Unpack[...]` of one of the classes above, which is
    what type checkers read; a line `**options: ...` of its docstring is replaced as well.
    """
    signature = inspect.signature(method)
    *named, options = signature.parameters.values()
    (kwargs,) = typing.get_args(options.annotation)
    defaults = {field.name: field.default for field in dataclasses.fields(DecodingOptions)}
    before, marker, after = (method.__doc__ or "").partition("**options: ")
    indent = before[before.rfind("\n") + 1 :]
    lines = []
    for name, hint in typing.get_type_hints(kwargs, include_extras=True).items():
        annotation, text = typing.get_args(hint)
        named.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults[name],
                annotation=annotation,
            )
        )
        lines.append(
            textwrap.fill(
                f"{name}: {text}",
                width=_WIDTH,
                initial_indent=indent,
                subsequent_indent=f"{indent}  ",
            )
        )
    method.__dict__["__signature__"] = signature.replace(parameters=named)
    if marker:
        rest = after.partition("\n")[2]
        method.__doc__ = before.removesuffix(indent) + "\n".join([*lines, rest])
    return checks_call(method)


def _check_int(name: str, value: Any, least: int, most: int | None = None) -> None:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if whole and value >= least and (most is None or value <= most):
        return
    limits = f"{least} or more" if most is None else f"{least} to {most:,}"
    raise UserError(f"{name} is {value!r}, expected a whole number, {limits}.")


def _texts(name: str, value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{name} is {value!r}, expected a text or a list of texts.")
    if not all(texts):
        raise UserError(f"{name} is {value!r}, expected texts that are not empty.")
    return tuple(texts)
