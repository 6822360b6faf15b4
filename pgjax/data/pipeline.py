"""Preprocessing pipelines, written as big_vision writes them.

    decode|resize(224, antialias=True)|value_range(-1, 1)

The text is parsed once as a Python expression. Every op is a function from one example (a dict) to
another, listed by name in `OPS`; its arguments are literals, bound to the function's signature
before any data is read. Ops that draw random numbers or tokenize declare keyword-only `rng` or
`tokenizer` parameters, which the pipeline supplies.
"""

import ast
import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import numpy as np

from pgjax.data import ops_choices, ops_general, ops_image, ops_text, ops_video
from pgjax.errors import DataError, UserError
from pgjax.text.tokenizer import Tokenizer

Op = Callable[..., dict]

OPS: dict[str, Op] = {
    # image
    "decode": ops_image.decode,
    "resize": ops_image.resize,
    "resize_small": ops_image.resize_small,
    "resize_long": ops_image.resize_long,
    "pad_to_square": ops_image.pad_to_square,
    "crop": ops_image.crop,
    "center_crop": ops_image.center_crop,
    "random_crop": ops_image.random_crop,
    "inception_crop": ops_image.inception_crop,
    "flip_lr": ops_image.flip_lr,
    "outline": ops_image.outline,
    "value_range": ops_image.value_range,
    "video": ops_video.video,
    # text
    "strfmt": ops_text.strfmt,
    "choice": ops_text.choice,
    "choice_at": ops_text.choice_at,
    "join": ops_text.join,
    "lower": ops_text.lower,
    "strip": ops_text.strip,
    "boxes_to_loc": ops_text.boxes_to_loc,
    "shuffle_choices": ops_choices.shuffle_choices,
    "letter_choices": ops_choices.letter_choices,
    "tok": ops_text.tok,
    "for_training": ops_text.for_training,
    "for_answering": ops_text.for_answering,
    # any key
    "fit": ops_general.fit,
    "keep": ops_general.keep,
    "drop": ops_general.drop,
    "copy": ops_general.copy,
    "rename": ops_general.rename,
    "setdefault": ops_general.setdefault,
}

_SUPPLIED = ("rng", "tokenizer")


def register(name: str) -> Callable[[Op], Op]:
    """Decorator that adds an op under a new name; a name already taken is a UserError.

    The function takes the example first and returns a new dict. Its module must be imported before
    a pipeline that names it is parsed; for worker processes it must be importable, not a lambda.
    """

    def add(function: Op) -> Op:
        if OPS.setdefault(name, function) is not function:
            raise UserError(f"an op named {name!r} exists already")
        return function

    return add


def _user_signature(function: Op) -> inspect.Signature:
    """The parameters a pipeline may set: all but the example and what the pipeline supplies."""
    _, *parameters = inspect.signature(function).parameters.values()
    return inspect.Signature([p for p in parameters if p.name not in _SUPPLIED])


def describe_ops() -> str:
    """One line per op, `name(arguments): what it does`, in the order of `OPS`."""
    lines = []
    for name, function in OPS.items():
        signature = _user_signature(function)
        plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        summary = inspect.getdoc(function) or "undocumented"
        lines.append(f"{name}{signature.replace(parameters=plain)}: {summary.splitlines()[0]}")
    return "\n".join(lines)


@dataclass(frozen=True)
class _Step:
    """One bound op: `function(example, *args, **kwargs)`, and how messages call it."""

    where: str
    function: Op
    args: tuple
    kwargs: dict[str, Any]
    random: bool

    def __call__(self, example: dict, rng: np.random.Generator | None) -> dict:
        if self.random and rng is None:
            raise UserError(f"{self.where} draws random numbers, but the pipeline was given no rng")
        drawn = {"rng": rng} if self.random else {}
        try:
            result = self.function(example, *self.args, **self.kwargs, **drawn)
        except UserError as error:  # keeps the class: DropExample stays a DropExample
            raise type(error)(f"{self.where}: {error}") from error
        except KeyError as error:
            key = error.args[0] if error.args else None
            if key in example:
                raise DataError(f"{self.where}: KeyError: {error}") from error
            raise DataError(
                f"{self.where}: the example has no key {key!r}, it has {sorted(map(str, example))}"
            ) from error
        except Exception as error:
            raise DataError(f"{self.where}: {type(error).__name__}: {error}") from error
        if not isinstance(result, dict):
            raise UserError(f"{self.where} returned {type(result).__name__}, expected a dict")
        return result


@dataclass(frozen=True)
class Pipeline:
    """A parsed pipeline; `spec` is the text it came from. Picklable."""

    spec: str
    steps: tuple[_Step, ...]

    @classmethod
    def parse(cls, spec: str, tokenizer: Tokenizer | None = None) -> "Pipeline":
        """Parses `op|op(args)|…`; the empty text is the pipeline that changes nothing.

        Raises UserError, naming the op and its position, for a syntax error, an unknown op, wrong
        or non-literal arguments, or an op that needs a tokenizer when there is none.
        """
        calls = _split(spec) if spec.strip() else []
        steps = [_bind(call, i, spec, tokenizer) for i, call in enumerate(calls, 1)]
        return cls(spec, tuple(steps))

    def __call__(self, example: dict, rng: np.random.Generator | None = None) -> dict:
        """A new example; the one given is left as it was.

        Raises DataError, naming op and position, where an op fails on the data, and UserError
        where the pipeline itself is at fault.
        """
        example = dict(example)
        for step in self.steps:
            example = step(example, rng)
        return example

    def __str__(self) -> str:
        return self.spec


def _split(spec: str) -> list[ast.expr]:
    """The operands of `a | b | c`, left to right."""
    try:
        node = ast.parse(f"({spec}\n)", mode="eval").body  # parentheses admit line breaks
    except (SyntaxError, ValueError) as error:
        message = getattr(error, "msg", error)
        raise UserError(
            f"cannot parse the pipeline {spec!r}: {message}; expected op|op(arguments)|…"
        ) from error
    operands = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        operands.append(node.right)
        node = node.left
    return [node, *reversed(operands)]


def _bind(node: ast.expr, position: int, spec: str, tokenizer: Tokenizer | None) -> _Step:
    where = f"op {position} ({ast.unparse(node)})"
    of = f"{where} of the pipeline {spec!r}"
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name):
        raise UserError(f"{of} is not an op: expected name or name(arguments)")
    function = OPS.get(call.func.id)
    if function is None:
        close = difflib.get_close_matches(call.func.id, OPS, 1)
        hint = f"did you mean {close[0]!r}? There are" if close else "there are"
        raise UserError(f"{of} does not exist; {hint} {', '.join(OPS)}")

    try:
        args = tuple(ast.literal_eval(arg) for arg in call.args)
        kwargs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        if None in kwargs:  # **mapping
            raise ValueError
    except (ValueError, TypeError, SyntaxError) as error:
        raise UserError(
            f"{of}: arguments must be literals, such as 224, 'text', (1, 2) or True"
        ) from error
    signature = _user_signature(function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        usage = f"{call.func.id}{signature.replace(parameters=plain)}"
        raise UserError(f"{of}: {error}; expected {usage}") from error
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].annotation
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise UserError(f"{of}: {name} is {value!r}, expected one of {get_args(kind)}")

    parameters = inspect.signature(function).parameters
    if "tokenizer" in parameters:
        if tokenizer is None:
            raise UserError(f"{of} needs a tokenizer, but the pipeline was given none")
        kwargs["tokenizer"] = tokenizer
    return _Step(where, function, args, kwargs, "rng" in parameters)
