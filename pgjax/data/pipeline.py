"""Preprocessing pipelines, written as big_vision writes them.

    decode|resize(224, antialias=True)|value_range(-1, 1)

The text is parsed once as a Python expression. Every op is a function that takes one example (a
dict) and returns another one; `pgjax.registry.OPS` holds them by name. Arguments are literals, and
are bound to the function's signature before any data is read. An op that draws random numbers or
tokenizes declares a keyword-only parameter `rng` or `tokenizer`, which the pipeline supplies.
"""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pgjax.data.arguments import problem
from pgjax.data.example import Example
from pgjax.errors import DataError, UserError
from pgjax.registry import OPS
from pgjax.text.tokenizer import Tokenizer

Op = Callable[..., Example]

_SUPPLIED = ("rng", "tokenizer")


def _user_signature(function: Op) -> inspect.Signature:
    """The parameters that a pipeline's text may set: neither the example nor what is supplied."""
    _, *parameters = inspect.signature(function).parameters.values()
    return inspect.Signature([p for p in parameters if p.name not in _SUPPLIED])


def _usage(name: str, function: Op) -> str:
    """How an op is called, without annotations: `resize(size, method='bilinear', …)`."""
    signature = _user_signature(function)
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return f"{name}{signature.replace(parameters=plain)}"


def describe_ops() -> str:
    """Returns one line per op, `name(arguments): what it does`, in the order of `OPS`."""
    lines = []
    for name, function in OPS.items():
        summary = inspect.getdoc(function) or "undocumented"
        lines.append(f"{_usage(name, function)}: {summary.splitlines()[0]}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Step:
    """One op with its arguments: `function(example, *args, **kwargs)`.

    Attributes:
      name: the op's name in `OPS`.
      where: the op and its position in the pipeline, for messages.
      function: the op.
      args: the positional arguments that the text gives.
      kwargs: the keyword arguments that the text gives, and the tokenizer.
      arguments: all arguments that the text gives, by the name of the parameter.
      supplied: the parameters that the pipeline supplies: `rng`, `tokenizer`, both or neither.
    """

    name: str
    where: str
    function: Op
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    arguments: dict[str, Any]
    supplied: frozenset[str]

    def __call__(self, example: Example, rng: np.random.Generator | None) -> Example:
        """Applies the op; errors name it and its position."""
        if "rng" in self.supplied and rng is None:
            raise UserError(
                f"{self.where} draws random numbers, but the pipeline was given no rng."
            )
        supplied = {"rng": rng} if "rng" in self.supplied else {}
        try:
            result = self.function(example, *self.args, **self.kwargs, **supplied)
        except UserError as error:  # the class is kept: a DropExample stays a DropExample
            raise type(error)(f"{self.where}: {error}") from error
        except KeyError as error:
            key = error.args[0] if error.args else None
            if key in example:
                raise DataError(f"{self.where}: KeyError: {error}.") from error
            raise DataError(
                f"{self.where}: the example has no key {key!r}, it has {sorted(map(str, example))}."
            ) from error
        except Exception as error:
            raise DataError(f"{self.where}: {type(error).__name__}: {error}.") from error
        if not isinstance(result, dict):
            raise UserError(f"{self.where} returned {type(result).__name__}, expected a dict.")
        return result


@dataclass(frozen=True)
class Pipeline:
    """A parsed pipeline, which can be pickled; `spec` is the text that it was parsed from."""

    spec: str
    steps: tuple[Step, ...]

    @classmethod
    def parse(cls, spec: str, tokenizer: Tokenizer | None = None) -> "Pipeline":
        """Parses `op|op(args)|…`; the empty text gives the pipeline that changes nothing.

        Args:
          spec: the text.
          tokenizer: for ops that tokenize.

        Raises:
          UserError: a syntax error, an unknown op, wrong or non-literal arguments, or an op that
            needs a tokenizer where none is given; the message names the op and its position.
        """
        steps = parse_ops(spec)
        for step in steps:
            if "tokenizer" in step.supplied:
                if tokenizer is None:
                    raise UserError(
                        f"{step.where} of the pipeline {spec!r} needs a tokenizer, but the "
                        "pipeline was given none."
                    )
                step.kwargs["tokenizer"] = tokenizer
        return cls(spec, steps)

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        """Applies the ops; the given example is left as it was.

        Args:
          example: what a data source returned.
          rng: for ops that draw random numbers.

        Raises:
          DataError: an op fails on the data; the message names the op and its position.
          UserError: the pipeline itself is at fault.
        """
        example = dict(example)
        for step in self.steps:
            example = step(example, rng)
        return example

    def __str__(self) -> str:
        return self.spec


def parse_ops(spec: str) -> tuple[Step, ...]:
    """Parses a pipeline in order to look at its ops, for which no tokenizer is needed.

    Raises:
      UserError: as `Pipeline.parse`, but for the tokenizer.
    """
    try:
        calls = _split(spec) if spec.strip() else []
        return tuple(_bind(call, i, spec) for i, call in enumerate(calls, 1))
    except (RecursionError, MemoryError):  # Python's parser raises either
        raise UserError(
            f"The pipeline {spec[:60]!r}… is too long or nested too deeply to be parsed."
        ) from None


def _split(spec: str) -> list[ast.expr]:
    """The operands of `a | b | c`, from left to right."""
    try:
        node = ast.parse(f"({spec}\n)", mode="eval").body  # parentheses admit line breaks
    except (SyntaxError, ValueError) as error:
        message = getattr(error, "msg", error)
        raise UserError(
            f"The pipeline {spec!r} cannot be parsed: {message}; expected op|op(arguments)|…."
        ) from error
    operands = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        operands.append(node.right)
        node = node.left
    return [node, *reversed(operands)]


def _bind(node: ast.expr, position: int, spec: str) -> Step:
    """Finds the op that a call names and binds its arguments."""
    where = f"op {position} ({ast.unparse(node)})"
    of = f"{where} of the pipeline {spec!r}"
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    if not isinstance(call.func, ast.Name):
        raise UserError(f"{of} is not an op, expected name or name(arguments).")
    name = call.func.id
    function = OPS.find(name, of)
    try:
        args = tuple(ast.literal_eval(arg) for arg in call.args)
        kwargs = {}
        for keyword in call.keywords:
            if keyword.arg is None:  # **mapping
                raise ValueError
            kwargs[keyword.arg] = ast.literal_eval(keyword.value)
    except (ValueError, TypeError, SyntaxError) as error:
        raise UserError(
            f"{of}: arguments must be literals, such as 224, 'text', (1, 2) or True."
        ) from error
    signature = _user_signature(function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise UserError(f"{of}: {error}; expected {_usage(name, function)}.") from error
    for parameter, value in bound.arguments.items():
        declared = signature.parameters[parameter]
        each = {declared.VAR_POSITIONAL: tuple, declared.VAR_KEYWORD: dict.values}
        for one in each.get(declared.kind, lambda v: (v,))(value):
            if expected := problem(declared.annotation, one):
                raise UserError(f"{of}: {parameter} is {one!r:.100}, expected {expected}.")

    supplied = frozenset(_SUPPLIED).intersection(inspect.signature(function).parameters)
    return Step(name, where, function, args, kwargs, bound.arguments, supplied)
