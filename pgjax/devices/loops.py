"""The number of iterations of a compiled loop."""

import math
import re

from pgjax.devices.hlo import Computation, Instruction, Module

_SAME = ("copy", "bitcast", "convert", "copy-done", "copy-start")


def trip_count(module: Module, outer: Computation, loop: Instruction) -> int | None:
    """Returns the number of iterations of a `while`, or None where it depends on data.

    The compilers for CPU and CUDA write it beside the loop. The one for TPUs does not; there it
    follows from the counter's first value, its increment, and the value that it is compared with.

    Args:
      module: the program.
      outer: the computation that contains the loop.
      loop: the instruction of the loop.
    """
    if found := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
        return int(found[1])
    condition = module.computations[loop.called("condition")[0]]
    body = module.computations[loop.called("body")[0]]
    test = condition.instructions[condition.root]
    if test.opcode != "compare" or test.attribute("direction") not in ("LT", "NE"):
        return None
    counter = _carried(condition, test.operands[0])
    if counter is None:
        return None
    end = _constant(condition, test.operands[1])
    if end is None and (bound := _carried(condition, test.operands[1])) is not None:
        end = _initial(outer, loop, bound)
    begin, step = _initial(outer, loop, counter), _step(body, counter)
    if end is None or begin is None or not step:
        return None
    return max(0, math.ceil((end - begin) / step))


def _source(computation: Computation, name: str) -> Instruction:
    """Returns the instruction that a value is a copy of."""
    found = computation.instructions[name]
    while found.opcode in _SAME and found.operands:
        found = computation.instructions[found.operands[0]]
    return found


def _carried(computation: Computation, name: str) -> int | None:
    """Returns the position of a value in the tuple that the loop carries, or None."""
    found = _source(computation, name)
    return found.number("index") if found.opcode == "get-tuple-element" else None


def _constant(computation: Computation, name: str) -> int | None:
    found = _source(computation, name)
    whole = found.opcode == "constant" and re.fullmatch(r"-?\d+", found.literal)
    return int(found.literal) if whole else None


def _initial(outer: Computation, loop: Instruction, place: int) -> int | None:
    values = outer.instructions[loop.operands[0]]
    return _constant(outer, values.operands[place]) if values.opcode == "tuple" else None


def _step(body: Computation, place: int) -> int | None:
    """Returns the constant that an iteration adds to a value of the tuple, or None."""
    values = body.instructions[body.root]
    added = _source(body, values.operands[place]) if values.opcode == "tuple" else None
    if added is None or added.opcode != "add":
        return None
    steps = [_constant(body, name) for name in added.operands]
    return next((step for step in steps if step is not None), None)
